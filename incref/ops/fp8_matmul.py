"""`fp8_matmul`: products of scaled 8-bit floats."""

import torch
from torch import Tensor

from incref.formats import Format, ScaleOrder
from incref.numerics.checks import require_subnormals
from incref.numerics.codes import code_dtype
from incref.numerics.decode import decode_codes, value_table
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled_matmul import Factor, as_rows, flat_scale, require_matrices, require_output, scaled_matmul
from incref.ops.accumulated import ACCUMULATED, adds_exactly
from incref.ops.contract import Arg, Exactness, op
from incref.ops.quantize_float import get_float_format

__all__ = ["fp8_matmul"]


@op(
    version="1.0",
    exactness=Exactness.E2,
    tolerance=ACCUMULATED,
    looks_at_values=adds_exactly,
    args=(
        Arg(name="x", dtype="uint8", shape="..., K"),
        Arg(name="w", dtype="uint8", shape="N, K"),
        Arg(name="x_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape="..., ceil(K / b)"),
        Arg(name="w_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape="..., ceil(K / b)"),
        Arg(name="bias", dtype="float32, bfloat16 or float16, or None", shape="N"),
    ),
    results=(Arg(name="y", dtype="dtype", shape="..., N"),),
)
def fp8_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Multiply scaled float codes: `(decode(x) * x_scale) @ (decode(w) * w_scale).T + bias`.

    Args:
        x: codes of `x_fmt` [..., K].
        w: codes of `w_fmt` [N, K].
        x_scale: what the values of `x` are multiplied with; None is 1.
        w_scale: likewise for `w`.
        x_fmt: a float format of at most 8 bits, or a codebook, or its name.
        w_fmt: likewise.
        x_granularity: which elements of `x` share a scale: all (PER_TENSOR), rows (PER_TOKEN), 1 x 128
            (`per_group(128)`), or other blocks.
        w_granularity: likewise; also 128 x 128 (`per_block((128, 128))`).
        bias: [N].
        order: where the scales enter.
        dtype: of the result: float32, bfloat16 or float16.

    Returns:
        [..., N]. Products and their sum are exact; `order` says which roundings follow. Without scales and bias, and
        for EXACT, there is one, to `dtype`. A NaN makes its whole row or column NaN, `0 * Inf` and infinities of both
        signs make NaN; a finite sum beyond float32 becomes Inf; one that is exactly 0 is +0.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, a wrong shape, or scales along K in blocks of two sizes, unless `order` is
            EXACT.
        FlushDenormalError: if the processor flushes subnormals.

    >>> x = torch.tensor([[56, 64]], dtype=torch.uint8)
    >>> fp8_matmul(x, x, torch.tensor(0.5), None, x_fmt="e4m3fn", w_fmt="e4m3fn")
    tensor([[2.5000]])
    """
    require_matrices(x, w)
    require_output(dtype, bias, w.shape[0])
    require_subnormals("fp8_matmul")
    left = _factor("x", x, x_fmt, x_scale, x_granularity)
    right = _factor("w", w, w_fmt, w_scale, w_granularity)
    out = scaled_matmul(left, right, order=order, bias=bias, dtype=dtype)
    return out.view(*x.shape[:-1], w.shape[0])


def _factor(name: str, codes: Tensor, fmt: str | Format, scale: Tensor | None, granularity: Granularity) -> Factor:
    source = get_float_format(fmt)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    table = value_table(source, torch.float64, codes.device)
    values = as_rows(decode_codes(codes, source, torch.float64, table))
    factor, block = flat_scale(f"{name}_scale", scale, codes.shape, granularity)
    return Factor(values=values, scale=factor, block=block)
