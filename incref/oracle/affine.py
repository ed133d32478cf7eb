"""Affine quantization: `x = (code - zero_point) * scale`."""

from collections.abc import Sequence
from fractions import Fraction

from incref.formats import FloatFormat, IntFormat, IntRange, NanRule, Rounding, ScaleArithmetic
from incref.oracle.datum import Datum
from incref.oracle.encode import RandomBits, encode
from incref.oracle.ladder import ladder
from incref.oracle.scaled import divide_by_scale

__all__ = ["quantize_affine", "round_to_integer"]


def quantize_affine(
    xs: Sequence[Datum],
    fmt: IntFormat,
    scale: Datum,
    working: FloatFormat,
    *,
    zero_point: int = 0,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Sequence[RandomBits] | None = None,
) -> list[int]:
    """Quantize a block: `clamp(round(RN(x / scale)) + zero_point)`, RN in the working format.

    The sum is clamped, not the rounded quotient. Inf goes to the end of the range on its side; NaN by its rule, ZERO
    meaning the code of zero.

    >>> from incref.formats import FORMATS
    >>> from incref.oracle.datum import datum_of
    >>> quantize_affine([datum_of(-1.25)], FORMATS["uint8"], datum_of(0.5), FORMATS["float32"], zero_point=10)
    [8]
    """
    codes = ladder(fmt, is_negative=False, int_range=int_range).codes
    bits: Sequence[RandomBits | None] = [None] * len(xs) if random_bits is None else random_bits
    out = []
    for x, drawn in zip(xs, bits, strict=True):
        quotient = divide_by_scale(x, scale, working, arithmetic)
        if quotient.is_finite:
            code = round_to_integer(quotient.value, rounding, drawn) + zero_point
        else:
            code = encode(quotient, fmt, nan=nan, int_range=int_range)
            if quotient.is_nan and nan is NanRule.ZERO:
                code = zero_point
        out.append(min(max(code, codes[0]), codes[-1]))
    return out


def round_to_integer(x: Fraction, rounding: Rounding, random_bits: RandomBits | None = None) -> int:
    """Round a rational number to an integer of any size.

    >>> [round_to_integer(Fraction(n, 2), Rounding.NEAREST_EVEN) for n in (-3, -1, 1, 3)]
    [-2, 0, 0, 2]
    """
    size = abs(x)
    below = size.numerator // size.denominator
    part = size - below
    is_odd = below % 2 == 1
    half = Fraction(1, 2)
    goes_up = False
    match rounding:
        case Rounding.NEAREST_EVEN:
            goes_up = part > half or (part == half and is_odd)
        case Rounding.NEAREST_AWAY:
            goes_up = part >= half
        case Rounding.TOWARD_POSITIVE:
            goes_up = part > 0 and x > 0
        case Rounding.TOWARD_NEGATIVE:
            goes_up = part > 0 and x < 0
        case Rounding.STOCHASTIC:
            if random_bits is None:
                raise ValueError(f"{rounding} needs random_bits, got None")
            full = 1 << random_bits.width
            goes_up = part * full // 1 + random_bits.value >= full
    rounded = below + goes_up
    return rounded if x >= 0 else -rounded
