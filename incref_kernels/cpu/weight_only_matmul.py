"""`weight_only_matmul` tile by tile: rows of the weight are dequantized and multiplied while they are in the cache.

The weight is never there as a whole. Sums are those of PyTorch's products: in float32, in any order; where the processor
has instructions for bfloat16 these may take subnormals of it for zeros.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.backends.backend import Kernel, Prepared
from incref.formats import BlockFormat, Format, get_format
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import FLOAT_DTYPES
from incref.numerics.scaled_matmul import as_rows, require_matrices, require_output
from incref.ops.pack import unpack
from incref.ops.weight import Weight
from incref.ops.weight_only_matmul import dequantize_weight, regroup
from incref_kernels.cpu.processor import has_fast_bfloat16
from incref_kernels.cpu.tensors import why_not_tensors

__all__ = ["KERNEL", "weight_only_matmul"]

# Elements of a tile of the weight: what a core's own cache holds in float32.
_TILE = 1 << 19


def weight_only_matmul(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Run `incref.ops.weight_only_matmul`, by tiles."""
    require_matrices(x, w)
    found = get_format(fmt)
    if g_idx is not None:
        granularity, scale, zero_point = regroup(w, g_idx, scale, zero_point, fmt=found, granularity=granularity)
    return _multiply(
        w,
        scale,
        zero_point,
        tensor_scale,
        x,
        fmt=found,
        granularity=granularity,
        shape=(w.shape[0], w.shape[1]),
        is_packed=False,
        bias=bias,
        weight_dtype=weight_dtype,
        dtype=dtype,
    )


def _multiply(
    words: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    x: Tensor,
    *,
    fmt: Format,
    granularity: Granularity,
    shape: tuple[int, int],
    is_packed: bool,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Multiply by a weight whose codes are `words`, or are packed in them."""
    columns, length = shape
    dtype, weight_dtype = dtype or x.dtype, weight_dtype or x.dtype
    require_output(dtype, bias, columns)
    common = _common_dtype(x.dtype, weight_dtype, dtype, dtype if bias is None else bias.dtype)
    flat = as_rows(x).to(common)
    out = torch.empty(flat.shape[0], columns, dtype=dtype, device=x.device)
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    own = 1 if isinstance(fmt, BlockFormat) else granularity.block_shape(shape)[0]
    # Rows that share scales stay together; where all do, any rows have these scales.
    step = max(_TILE // max(length, 1), 1) if own in (1, columns) else max(_TILE // max(length * own, 1), 1) * own
    for start in range(0, columns, step):
        rows = slice(start, min(start + step, columns))
        blocks = slice(None) if own == columns and own > 1 else slice(start // own, -(-rows.stop // own))
        codes = words[rows]
        if is_packed:
            codes = unpack(codes, element, layout=PackLayout.DENSE, length=length)
        weight = dequantize_weight(
            codes,
            scale[blocks] if scale.ndim else scale,
            zero_point[blocks] if zero_point is not None and zero_point.ndim else zero_point,
            tensor_scale,
            fmt=fmt,
            granularity=granularity,
            dtype=weight_dtype,
        ).to(common)
        part = None if bias is None else bias[rows].to(common)
        # A sum that is zero is +0.
        out[:, rows] = (F.linear(flat, weight, part) + 0.0).to(dtype)
    return out.view(*x.shape[:-1], columns)


def _common_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """What is multiplied: float32, which holds the values of all, or bfloat16 if all are and it is faster."""
    is_narrow = all(dtype is torch.bfloat16 for dtype in dtypes)
    return torch.bfloat16 if is_narrow and has_fast_bfloat16() else torch.float32


def prepare(weight: Weight) -> Prepared:
    """Keep the weight as it is stored."""
    multiply = partial(
        _multiply,
        fmt=weight.fmt,
        granularity=weight.granularity,
        shape=weight.shape,
        is_packed=weight.element.bits < 8,
    )
    return Prepared(
        run=multiply,
        tensors=(weight.words, weight.scale, weight.zero_point, weight.tensor_scale),
        why_not=_why_not_prepared,
    )


def _why_not_prepared(
    words: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    x: Tensor,
    *,
    bias: Tensor | None = None,
    **_options: object,
) -> str | None:
    tensors = {"w": words, "scale": scale, "zero_point": zero_point, "tensor_scale": tensor_scale}
    return why_not_tensors({"x": x, "bias": bias, **tensors}) or _why_not_floats(x, scale)


def _why_not_floats(x: Tensor, scale: Tensor) -> str | None:
    if x.dtype not in FLOAT_DTYPES or x.dtype is torch.float64:
        return f"it multiplies float32, bfloat16 and float16, got {x.dtype}"
    if scale.dtype is torch.float64:
        return "it multiplies by scales in float32, so it takes none of float64"
    if not torch.compiler.is_compiling() and torch.get_float32_matmul_precision() != "highest":
        return 'products of float32 are rounded here; call torch.set_float32_matmul_precision("highest")'
    return None


def why_not(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    _fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"x": x, "w": w, "scale": scale, "zero_point": zero_point, "g_idx": g_idx, "bias": bias}
    return why_not_tensors({**tensors, "tensor_scale": tensor_scale}) or _why_not_floats(x, scale)


KERNEL = Kernel(fn=weight_only_matmul, why_not=why_not, prepare=prepare)
