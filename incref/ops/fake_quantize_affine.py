"""`fake_quantize_affine`: scaled integers and back."""

from torch import Tensor

from incref.formats import Format, IntRange, NanRule, Rounding, ScaleArithmetic, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops.contract import Arg, Exactness, op
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.quantize_affine import quantize_affine
from incref.ops.result import require_out

__all__ = ["fake_quantize_affine"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="d0, d1, ..."),
        Arg(name="scale", dtype="float32 (float64 for float64 x) or uint8 (E8M0), or None", shape="ceil(d0 / b0), ..."),
        Arg(name="zero_point", dtype="int32, or None", shape="that of scale"),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
        Arg(name="out", dtype="that of x, or None", shape="that of x"),
    ),
    results=(Arg(name="values", dtype="that of x", shape="that of x"),),
)
def fake_quantize_affine(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Quantize `x` to integers and dequantize it: `dequantize_affine(*quantize_affine(x))` in its dtype.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
        fmt: int2 to int8 or uint1 to uint8, or its name.
        scale: of every block; computed by `compute_scale` if None.
        zero_point: int32, of every block; goes with `scale`. None is 0.
        granularity: which elements share a scale.
        rule: as for `quantize_affine`, like the options after it.
        symmetric: whether a computed scale goes without zero point.
        symmetric_scale: which magnitude a symmetric grid puts where.
        int_range: which codes of a signed format are used.
        arithmetic: whether `x / scale` is a division or a product with the reciprocal.
        rounding: of `x / scale` to an integer.
        nan: what a NaN becomes.
        random_bits: for stochastic rounding, in the shape of `x`.
        out: where the values are written: `x` itself, or memory of its own; None for a new tensor.

    Returns:
        What `dequantize_affine` gives in the dtype of `x`.

    Raises:
        NanError: as `quantize_affine`.
        TypeError: as `quantize_affine`, or if `out` has another dtype.
        ValueError: as `quantize_affine`, or if `out` has another shape or shares memory with `x` without being it.
        FlushDenormalError: if the processor flushes subnormals.

    >>> import torch
    >>> fake_quantize_affine(torch.tensor([0.104, -1.0, 1.27]), "int8")
    tensor([ 0.1000, -1.0000,  1.2700])
    """
    if out is not None:
        require_out(out, x)
    codes, used, *zero = quantize_affine(
        x,
        fmt,
        scale,
        zero_point,
        granularity=granularity,
        rule=rule,
        symmetric=symmetric,
        symmetric_scale=symmetric_scale,
        int_range=int_range,
        arithmetic=arithmetic,
        rounding=rounding,
        nan=nan,
        random_bits=random_bits,
    )
    made = dequantize_affine(codes, used, zero[0] if zero else None, granularity=granularity, dtype=x.dtype)
    return made if out is None else out.copy_(made)
