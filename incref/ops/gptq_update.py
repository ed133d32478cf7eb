"""`gptq_update`: one block of columns of GPTQ, each making up for the errors of those before it."""

import torch
from torch import Tensor

from incref.formats import Format, IntRange, NanRule, ScaleArithmetic
from incref.numerics.checks import require_subnormals
from incref.numerics.granularity import PER_TOKEN, Granularity
from incref.numerics.scaled import require_scale
from incref.ops.contract import Arg, Exactness, op
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.quantize_affine import get_int_format, quantize_affine

__all__ = ["gptq_update", "require_block"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="w", dtype="float32", shape="N, B"),
        Arg(name="upper", dtype="float32", shape="B, B"),
        Arg(name="scale", dtype="float32", shape="N, groups"),
        Arg(name="zero_point", dtype="int32, or None", shape="that of scale"),
    ),
    results=(
        Arg(name="codes", dtype="uint8 or int8", shape="N, B"),
        Arg(name="error", dtype="float32", shape="N, B"),
        Arg(name="updated", dtype="float32", shape="N, B"),
    ),
)
def gptq_update(
    w: Tensor,
    upper: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TOKEN,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize the columns of a block in their order, and add the error of each to those that follow.

    Args:
        w: finite weights, float32 [N, B].
        upper: U, float32 [B, B]: the part of the upper Cholesky factor of the inverse Hessian that belongs to the
            block. What is below its diagonal is not read.
        scale: of the weights; it does not change on the way.
        fmt: int2 to int8 or uint1 to uint8, or its name.
        zero_point: int32, the code of zero; None is 0.
        granularity: which weights share a scale: rows, or groups of columns within them.
        int_range: whether the least code of a signed format is used.
        arithmetic: whether a weight is divided by its scale or multiplied with the reciprocal.

    Returns:
        `(codes, error, updated)`. For j from 0 to B - 1, in float32, each operation rounded to nearest even:
        `codes_j = quantize_affine(w_j)`; `error_j = (w_j - dequantize_affine(codes_j)) / U_jj`, two roundings; then
        `w_k = w_k - U_jk * error_j`, two roundings, for every k > j. `updated` is w as it was quantized. Columns beyond
        the block become `w - error @ U'`, with the other columns U' of the rows of the factor.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format or a wrong shape.
        NanError: if a weight is or becomes NaN.
        FlushDenormalError: if the processor flushes subnormals.

    Source: arXiv 2210.17323 (GPTQ), algorithm 1, its inner loop.

    >>> w, upper = torch.tensor([[0.6, 1.0]]), torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    >>> gptq_update(w, upper, torch.ones(1, 1), "int4")[0]
    tensor([[1, 1]], dtype=torch.int8)
    """
    target = get_int_format(fmt)
    require_subnormals("gptq_update")
    require_block(w, upper, scale, granularity)
    spread = require_scale("scale", scale, w.shape, granularity)
    size = granularity.block_shape(w.shape)[1]
    updated, error = w.clone(), torch.empty_like(w, memory_format=torch.contiguous_format)
    codes: list[Tensor] = []
    for j in range(w.shape[1]):
        at = slice(j // size, j // size + 1)
        factor = spread[:, at].contiguous()
        zero = None if zero_point is None else zero_point[:, at].contiguous()
        column = updated[:, j : j + 1].contiguous()
        code = quantize_affine(
            column,
            target,
            factor,
            zero,
            granularity=PER_TOKEN,
            int_range=int_range,
            arithmetic=arithmetic,
            nan=NanRule.ERROR,
        )[0]
        value = dequantize_affine(code, factor, zero, granularity=PER_TOKEN)
        error[:, j : j + 1] = (column - value) / upper[j, j]
        # A product of its own: a fused operation would round once.
        step = upper[j, j + 1 :] * error[:, j : j + 1]
        updated[:, j + 1 :] -= step
        codes.append(code)
    found = torch.cat(codes, 1) if codes else quantize_affine(w, target, scale, zero_point, granularity=granularity)[0]
    return found, error, updated


def require_block(w: Tensor, upper: Tensor, scale: Tensor, granularity: Granularity) -> None:
    """Check dtypes and shapes of what `gptq_update` takes.

    Raises:
        TypeError: for another dtype than float32.
        ValueError: for a wrong shape, or scales that rows share.
    """
    for name, one in (("w", w), ("upper", upper), ("scale", scale)):
        if one.dtype is not torch.float32:
            raise TypeError(f"{name} must be torch.float32, got {one.dtype}")
    if w.ndim != 2 or tuple(upper.shape) != (w.shape[1], w.shape[1]):
        raise ValueError(f"w must be [N, B] and upper [B, B], got {tuple(w.shape)} and {tuple(upper.shape)}")
    if len(granularity.block) != 1:
        raise ValueError(f"weights share scales in rows or groups of columns, got {granularity}")
