"""`fake_quantize_float`: scaled floats and back."""

from torch import Tensor

from incref.formats import Format, NanRule, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops.contract import Arg, Exactness, op
from incref.ops.dequantize_float import dequantize_float
from incref.ops.quantize_float import quantize_float
from incref.ops.result import require_out

__all__ = ["fake_quantize_float"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="d0, d1, ..."),
        Arg(name="scale", dtype="float32 (float64 for float64 x) or uint8 (E8M0), or None", shape="ceil(d0 / b0), ..."),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
        Arg(name="out", dtype="that of x, or None", shape="that of x"),
    ),
    results=(Arg(name="values", dtype="that of x", shape="that of x"),),
)
def fake_quantize_float(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Quantize `x` to a scaled float format and dequantize it: `dequantize_float(*quantize_float(x))` in its dtype.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
        fmt: a float format of at most 8 bits, or a codebook, or its name.
        scale: of every block; computed by `compute_scale` with `rule` if None.
        granularity: which elements share a scale.
        rule: as for `quantize_float`, like the options after it.
        arithmetic: whether `x / scale` is a division or a product with the reciprocal.
        quotient: which dtype that is computed in.
        rounding: of the quotient to a value of `fmt`.
        overflow: what a quotient outside the range of `fmt` becomes.
        nan: what a NaN becomes where `fmt` has none.
        random_bits: for stochastic rounding, in the shape of `x`.
        out: where the values are written: `x` itself, or memory of its own; None for a new tensor.

    Returns:
        What `dequantize_float` gives in the dtype of `x`.

    Raises:
        NanError: as `quantize_float`.
        TypeError: as `quantize_float`, or if `out` has another dtype.
        ValueError: as `quantize_float`, or if `out` has another shape or shares memory with `x` without being it.
        FlushDenormalError: if the processor flushes subnormals.

    >>> import torch
    >>> fake_quantize_float(torch.tensor([0.11, -1.0, 44.8]), "e4m3fn")
    tensor([ 0.1125, -1.0000, 44.8000])
    """
    if out is not None:
        require_out(out, x)
    codes, used = quantize_float(
        x,
        fmt,
        scale,
        granularity=granularity,
        rule=rule,
        arithmetic=arithmetic,
        quotient=quotient,
        rounding=rounding,
        overflow=overflow,
        nan=nan,
        random_bits=random_bits,
    )
    made = dequantize_float(codes, used, fmt, granularity=granularity, dtype=x.dtype)
    return made if out is None else out.copy_(made)
