"""`weight_only_matmul` of a weight that is never dequantized as a whole."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel, Prepared
from incref.backends.declared import AnyOrder
from incref.formats import FORMATS, BlockFormat, Format, IntFormat, get_format
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity, per_group
from incref.numerics.patterns import FLOAT_DTYPES
from incref.numerics.scaled import require_scale
from incref.numerics.scaled_matmul import require_matrices, require_output
from incref.ops.quantize_affine import get_int_format
from incref.ops.quantize_float import get_float_format
from incref.ops.weight import Weight
from incref.ops.weight_only_matmul import regroup
from incref_kernels.block_options import require_blocks
from incref_kernels.cpu.launch import why_not_plain, why_not_tensors
from incref_kernels.cpu.processor import has_fast_bfloat16
from incref_kernels.cpu.weight_product import multiply
from incref_kernels.scales import require_zero_point

__all__ = ["KERNEL", "weight_only_matmul"]


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
    """Run `incref.ops.weight_only_matmul`."""
    require_matrices(x, w)
    require_output(dtype or x.dtype, bias, w.shape[0])
    found = get_format(fmt)
    if g_idx is not None:
        granularity, scale, zero_point = regroup(w, g_idx, scale, zero_point, fmt=found, granularity=granularity)
    _require_weight(w, scale, zero_point, tensor_scale, found, granularity)
    return multiply(
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


def _require_weight(  # noqa: PLR0917  # in the order of the operation
    w: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    fmt: Format,
    granularity: Granularity,
) -> None:
    """Refuse what the reference refuses."""
    if isinstance(fmt, BlockFormat):
        if zero_point is not None or granularity not in (PER_TENSOR, per_group(fmt.block_size)):
            raise ValueError(f"{fmt.name} has blocks of its own and no zero_point; leave both out")
        require_blocks(w, scale, fmt, 1, tensor_scale)
        return
    if tensor_scale is not None:
        raise ValueError(f"{fmt.name} has no tensor_scale")
    if zero_point is not None and not isinstance(fmt, IntFormat):
        raise ValueError(f"only integer formats have zero points, got {fmt.name}")
    wanted = code_dtype(get_int_format(fmt) if isinstance(fmt, IntFormat) else get_float_format(fmt))
    if w.dtype is not wanted:
        raise TypeError(f"codes of {fmt.name} must be {wanted}, got {w.dtype}")
    require_scale("scale", scale, w.shape, granularity)
    require_zero_point(zero_point, w, granularity)


def prepare(weight: Weight) -> Prepared:
    """Keep the weight as it is stored."""
    run = partial(
        multiply,
        fmt=weight.fmt,
        granularity=weight.granularity,
        shape=weight.shape,
        is_packed=weight.element.bits < 8,
    )
    tensors = (weight.words, weight.scale, weight.zero_point, weight.tensor_scale)
    return Prepared(run=run, tensors=tensors, why_not=partial(_why_not_prepared, fmt=weight.fmt))


def _why_not_prepared(
    words: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    x: Tensor,
    *,
    fmt: Format,
    bias: Tensor | None = None,
    **_options: object,
) -> str | None:
    if torch.compiler.is_compiling() and FORMATS.get(fmt.name) != fmt:
        return f"a graph holds the names of formats, and {fmt.name} is not in the table"
    tensors = {"w": words, "scale": scale, "zero_point": zero_point, "tensor_scale": tensor_scale}
    return why_not_plain({"x": x, "bias": bias, **tensors}) or _why_not_floats(x, scale)


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


KERNEL = Kernel(
    fn=weight_only_matmul, why_not=why_not, prepare=prepare, accumulator=AnyOrder(flushes=has_fast_bfloat16())
)
