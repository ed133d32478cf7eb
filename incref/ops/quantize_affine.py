"""`quantize_affine`: values to integer codes, by a scale and a zero point for each block."""

import torch
from torch import Tensor

from incref.formats import (
    FORMATS,
    Format,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
    get_format,
)
from incref.numerics.amax import block_parts
from incref.numerics.blocks import from_blocks, per_element, to_blocks
from incref.numerics.checks import require_subnormals
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import widen
from incref.numerics.rounding import require_random_bits
from incref.numerics.scaled import compute_dtype, divide_by_scale, require_scale, scale_values
from incref.numerics.tabulated import encode_values, find_table
from incref.ops.compute_scale import compute_scale
from incref.ops.contract import Arg, Exactness, op

__all__ = ["get_int_format", "quantize_affine", "require_found_scale"]


def get_int_format(fmt: str | Format) -> IntFormat:
    """Look up an integer format of at most 8 bits.

    Raises:
        ValueError: if `fmt` is another one.
    """
    found = get_format(fmt)
    if not isinstance(found, IntFormat) or found.bits > 8 or found.fraction_bits:
        raise ValueError(f"affine quantization needs int2 to int8 or uint1 to uint8, got {found.name}")
    return found


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="d0, d1, ..."),
        Arg(name="scale", dtype="float32 (float64 for float64 x) or uint8 (E8M0), or None", shape="ceil(d0 / b0), ..."),
        Arg(name="zero_point", dtype="int32, or None", shape="that of scale"),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
    ),
    results=(
        Arg(name="codes", dtype="uint8 or int8", shape="that of x"),
        Arg(name="scale", dtype="as given, or as compute_scale gives it", shape="ceil(d0 / b0), ..."),
        Arg(name="zero_point", dtype="int32; asymmetric only", shape="that of scale"),
    ),
)
def quantize_affine(
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
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Quantize `x` to integers: `codes = clamp(round(x / scale) + zero_point, least, max_code)`.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
        fmt: int2 to int8 or uint1 to uint8, or its name.
        scale: of every block; computed by `compute_scale` with `rule`, `symmetric` and `symmetric_scale` if None.
        zero_point: int32, the code of `fmt` that a zero gets, for every block; goes with `scale`. None is 0.
        granularity: which elements share a scale.
        rule: how a scale is computed.
        symmetric: whether a computed scale goes without zero point.
        symmetric_scale: which magnitude a symmetric grid puts where.
        int_range: whether the least code of a signed format is `min_code` (FULL) or `-max_code` (RESTRICTED).
        arithmetic: whether `x / scale` is a division or a product with the reciprocal.
        rounding: of `x / scale` to an integer.
        nan: what a NaN, also one that a NaN scale makes, becomes: ZERO gives the code of zero.
        random_bits: for stochastic rounding, in the shape of `x`.

    Returns:
        `(codes, scale)`, or `(codes, scale, zero_point)` if there is a zero point. The quotient is rounded to the
        compute dtype (float32; float64 for float64 `x`), then to an integer; the zero point is added and the sum
        clamped exactly.

    Raises:
        NanError: for a NaN, if `nan` is ERROR; a NaN or Inf anywhere in a block makes its computed scale NaN.
        TypeError: for a wrong dtype.
        ValueError: for another format, a wrong shape of `scale`, `zero_point` or `random_bits`, a `zero_point` without
            `scale`, or EXTREME without `IntRange.FULL`.
        FlushDenormalError: if the processor flushes subnormals.

    >>> quantize_affine(torch.tensor([0.1, -1.0, 1.27]), "int8")
    (tensor([  10, -100,  127], dtype=torch.int8), tensor(0.0100))
    """
    target = get_int_format(fmt)
    require_subnormals("quantize_affine")
    require_random_bits(x, rounding, random_bits)
    compute = compute_dtype(x.dtype)
    if scale is None:
        require_found_scale(zero_point, symmetric=symmetric, symmetric_scale=symmetric_scale, int_range=int_range)
        found = compute_scale(x, target, granularity, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        scale, zero_point = found if isinstance(found, tuple) else (found, None)
    factor = scale_values(require_scale("scale", scale, x.shape, granularity), compute)
    offset = None
    if zero_point is not None:
        if zero_point.dtype is not torch.int32:
            raise TypeError(f"zero_point must be torch.int32, got {zero_point.dtype}")
        offset = require_scale("zero_point", zero_point, x.shape, granularity)
    # With a zero point the rounded quotient may pass the range of the codes before the sum is clamped to it.
    wide = target if offset is None else FORMATS["int16"]
    assert isinstance(wide, IntFormat)
    to = Encoding(fmt=wide, rounding=rounding, overflow=Overflow.SATURATE, nan=nan, int_range=int_range)
    least = -target.max_code if target.is_signed and int_range is IntRange.RESTRICTED else target.min_code
    table = find_table(to, compute, x.numel(), x.device)
    codes = torch.empty(x.shape, dtype=code_dtype(target), device=x.device)
    for part, scales, inner in block_parts(tuple(x.shape), granularity.block_shape(x.shape), compute.itemsize):
        quotient = divide_by_scale(widen(x[part]), factor[scales], inner, arithmetic)
        random = None if random_bits is None else random_bits[part]
        rounded = encode_values(quotient, to, table, random_bits=random)
        if offset is not None:
            shifted = to_blocks(rounded, inner) + per_element(offset[scales], x.ndim).to(rounded.dtype)
            rounded = from_blocks(shifted, rounded.shape).clamp(least, target.max_code)
        codes[part] = rounded
    return (codes, scale) if zero_point is None else (codes, scale, zero_point)


def require_found_scale(
    zero_point: Tensor | None, *, symmetric: bool, symmetric_scale: SymmetricScale, int_range: IntRange
) -> None:
    """Refuse options that do not go with a scale that is computed.

    Raises:
        ValueError: for a zero point, or for EXTREME without the code that it puts an element on.
    """
    if symmetric and symmetric_scale is SymmetricScale.EXTREME and int_range is not IntRange.FULL:
        raise ValueError(f"EXTREME puts an element on the least code and needs IntRange.FULL, got {int_range}")
    if zero_point is not None:
        raise ValueError("a zero_point needs the scale that it was made with, got scale=None")
