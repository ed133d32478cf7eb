"""`weight_only_matmul`: products of float activations and quantized weights."""

import torch
from torch import Tensor

from incref.formats import BlockFormat, Format, IntFormat, get_format
from incref.numerics.checks import require_subnormals
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity, per_group
from incref.numerics.patterns import FLOAT_DTYPES, widen
from incref.numerics.scaled_matmul import as_rows, matmul_rounded, require_matrices, require_output
from incref.ops.accumulated import ACCUMULATED, adds_exactly
from incref.ops.contract import Arg, Exactness, op
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.dequantize_float import dequantize_float
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.quantize_affine import get_int_format

__all__ = ["dequantize_weight", "regroup", "require_group_index", "weight_only_matmul"]


@op(
    version="1.0",
    exactness=Exactness.E2,
    tolerance=ACCUMULATED,
    looks_at_values=adds_exactly,
    args=(
        Arg(name="x", dtype="float32, bfloat16 or float16", shape="..., K"),
        Arg(name="w", dtype="uint8, or int8 for signed integers", shape="N, K"),
        Arg(name="scale", dtype="float32, bfloat16, float16 or uint8 (codes)", shape="N, groups"),
        Arg(name="zero_point", dtype="int32, or None; integers only", shape="that of scale"),
        Arg(name="tensor_scale", dtype="float32; NVFP4 only", shape="()"),
        Arg(name="g_idx", dtype="int32 or int64, or None; integers and floats only", shape="K"),
        Arg(name="bias", dtype="float32, bfloat16 or float16, or None", shape="N"),
    ),
    results=(Arg(name="y", dtype="dtype, by default that of x", shape="..., N"),),
)
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
    """Multiply `x` by the transpose of a quantized weight, which is first dequantized to `weight_dtype`.

    Args:
        x: float32, bfloat16 or float16 [..., K].
        w: codes [N, K], one a byte; `unpack` makes them from words.
        scale: of the weight; of a block format its scale codes [N, ceil(K / block_size)].
        fmt: format of the weight: an integer of at most 8 bits, a float or codebook of as many, a block format, or its
            name.
        zero_point: int32, the code of zero, in the shape of `scale`; integers only; None is 0.
        granularity: which weights share a scale; a block format has its own, along K.
        g_idx: the group of every column, from 0 (the act-order of GPTQ): column k has the scale `scale[:, g_idx[k]]`.
            None for groups as `granularity` says. With it, `granularity` must be left out.
        tensor_scale: NVFP4 only: the scale of the weight.
        bias: [N].
        weight_dtype: float32, bfloat16 or float16, that of the dequantized weight; None for that of `x`.
        dtype: of the result; None for that of `x`.

    Returns:
        [..., N]: the exact sum of the exact products of `x` and the dequantized weight, and `bias`, rounded once to
        `dtype`. The weight has the roundings of `dequantize_affine`, `dequantize_float` or `dequantize_mx`: one to
        float32, one to `weight_dtype`. A NaN makes its whole row or column NaN; `0 * Inf` and infinities of both signs
        make NaN; a sum that is exactly 0 is +0.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, a wrong shape, a group that does not exist, or an argument that the format has
            no use for.
        FlushDenormalError: if the processor flushes subnormals.

    Source: arXiv 2210.17323 (GPTQ) for groups and act-order.

    >>> x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[3, 9]], dtype=torch.uint8)
    >>> weight_only_matmul(x, w, torch.tensor(0.5), "uint4", torch.tensor(8, dtype=torch.int32))
    tensor([[-1.5000]])
    """
    require_matrices(x, w)
    dtype, weight_dtype = dtype or x.dtype, weight_dtype or x.dtype
    for name, one in (("x", x.dtype), ("weight_dtype", weight_dtype)):
        if one not in FLOAT_DTYPES or one is torch.float64:
            raise TypeError(f"{name} must be torch.float32, torch.bfloat16 or torch.float16, got {one}")
    require_output(dtype, bias, w.shape[0])
    require_subnormals("weight_only_matmul")
    if g_idx is not None:
        granularity, scale, zero_point = regroup(
            w, g_idx, scale, zero_point, fmt=get_format(fmt), granularity=granularity
        )
    weight = dequantize_weight(
        w, scale, zero_point, tensor_scale, fmt=get_format(fmt), granularity=granularity, dtype=weight_dtype
    )
    values = widen(as_rows(x)).to(torch.float64)
    out = matmul_rounded(values, widen(weight).to(torch.float64), bias=bias, dtype=dtype)
    return out.view(*x.shape[:-1], w.shape[0])


def require_group_index(
    shape: tuple[int, int],
    g_idx: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    *,
    fmt: Format,
    granularity: Granularity,
) -> None:
    """Check the groups of the columns of a weight of `shape`.

    Raises:
        ValueError: if they are none, or the scales are not theirs.
    """
    if isinstance(fmt, BlockFormat) or granularity != PER_TENSOR:
        raise ValueError(f"g_idx says which weights share a scale; {fmt.name} and {granularity} say it otherwise")
    if g_idx.dtype not in (torch.int32, torch.int64) or g_idx.shape != (shape[1],):
        raise ValueError(
            f"g_idx must be torch.int32 or torch.int64 [{shape[1]}], got {g_idx.dtype} {tuple(g_idx.shape)}"
        )
    for name, one in (("scale", scale), ("zero_point", zero_point)):
        if one is not None and (one.ndim != 2 or one.shape[0] != shape[0]):
            raise ValueError(f"{name} must be [{shape[0]}, groups], got {tuple(one.shape)}")
    if g_idx.numel() and not 0 <= int(g_idx.min()) <= int(g_idx.max()) < scale.shape[1]:
        raise ValueError(f"g_idx must be from 0 to {scale.shape[1] - 1}, got {int(g_idx.min())} to {int(g_idx.max())}")


def regroup(
    w: Tensor, g_idx: Tensor, scale: Tensor, zero_point: Tensor | None, *, fmt: Format, granularity: Granularity
) -> tuple[Granularity, Tensor, Tensor | None]:
    """Give every column its own scale and zero point: those of its group."""
    rows, columns = w.shape
    require_group_index((rows, columns), g_idx, scale, zero_point, fmt=fmt, granularity=granularity)
    zeros = None if zero_point is None else zero_point[:, g_idx]
    return per_group(1), scale[:, g_idx], zeros


def dequantize_weight(
    w: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    *,
    fmt: Format,
    granularity: Granularity,
    dtype: torch.dtype,
) -> Tensor:
    """Turn a weight into values of `dtype`; the arguments are those of `weight_only_matmul`."""
    if isinstance(fmt, BlockFormat):
        if zero_point is not None or granularity not in (PER_TENSOR, per_group(fmt.block_size)):
            raise ValueError(f"{fmt.name} has blocks of its own and no zero_point; leave both out")
        return dequantize_mx(w, scale, fmt, tensor_scale=tensor_scale, dtype=dtype)
    if tensor_scale is not None:
        raise ValueError(f"{fmt.name} has no tensor_scale")
    if not isinstance(fmt, IntFormat):
        if zero_point is not None:
            raise ValueError(f"only integer formats have zero points, got {fmt.name}")
        return dequantize_float(w, scale, fmt, granularity=granularity, dtype=dtype)
    wanted = code_dtype(get_int_format(fmt))
    if w.dtype is not wanted:
        raise TypeError(f"codes of {fmt.name} must be {wanted}, got {w.dtype}")
    return dequantize_affine(w, scale, zero_point, granularity=granularity, dtype=dtype)
