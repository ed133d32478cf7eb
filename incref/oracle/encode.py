"""Rounding an exact datum to the code of a format, by comparison with its two neighbours."""

from dataclasses import dataclass

from incref.errors import NanError
from incref.formats import (
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
)
from incref.oracle.datum import Datum
from incref.oracle.ladder import Ladder, ladder
from incref.oracle.specials import greatest_number, infinity_number, nan_code, sign_bit
from incref.oracle.values import decode

__all__ = ["Between", "RandomBits", "encode", "find", "outside", "round_to"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomBits:
    """The random number R of N bits that one stochastic rounding uses."""

    value: int
    width: int

    def __post_init__(self) -> None:
        """Refuse a number that does not fit its width."""
        if not 0 <= self.value < 1 << self.width:
            raise ValueError(f"R must be 0 to 2**N - 1, got R = {self.value} and N = {self.width}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Between:
    """Where a magnitude stands: on rung `lower`, or between it and the next one.

    Attributes:
        lower: the highest rung that is not above the magnitude.
        part: numerator of `f = (|x| - lower) / (upper - lower)`.
        whole: denominator of f; 0 on the last rung and above it, where there is no upper neighbour.
    """

    lower: int
    part: int
    whole: int


def encode(
    x: Datum,
    fmt: ElementFormat,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: RandomBits | None = None,
) -> int:
    """Round `x` once and return the code of the result.

    Args:
        x: any datum.
        fmt: the target.
        rounding: which neighbour a value between two becomes.
        overflow: what a result outside the range becomes.
        nan: what NaN becomes where the format has none.
        int_range: which codes of a signed integer are used.
        random_bits: R and N, for stochastic rounding only.

    Returns:
        The code, a negative integer for negative values of signed integer formats. Zero keeps the sign of `x` where -0
        exists, NaN where NaNs have signs.

    >>> from incref.formats import get_format
    >>> from incref.oracle.datum import datum_of
    >>> hex(encode(datum_of(464.0), get_format("e4m3fn")))
    '0x7e'

    Raises:
        NanError: if the result is NaN, the format has none and `nan` is ERROR.
        ValueError: if `random_bits` come without stochastic rounding, or it without them.
    """
    if (rounding is Rounding.STOCHASTIC) != (random_bits is not None):
        raise ValueError(f"random_bits belong to {Rounding.STOCHASTIC}, got {random_bits} with {rounding}")
    if x.is_nan:
        return _nan(x, fmt, nan, int_range)
    if not x.is_finite:
        return outside(x, fmt, overflow=overflow, nan=nan, int_range=int_range)
    rungs = ladder(fmt, is_negative=x.is_negative, int_range=int_range)
    place = find(x, rungs, fmt)
    rung = place.lower + _goes_up(place, rungs, rounding, random_bits, is_negative=x.is_negative)
    # Above its last rung a codebook has no value, so that nothing there can be rounded to it.
    code = rungs.code(rung) if place.whole or not place.part else None
    if code is None:
        return outside(x, fmt, overflow=overflow, nan=nan, int_range=int_range, is_zero=rung == 0)
    return code


def find(x: Datum, rungs: Ladder, fmt: ElementFormat) -> Between:
    """Find the neighbours of a finite magnitude."""
    numerator, denominator = x.magnitude.numerator, x.magnitude.denominator
    if rungs.exponent < 0:
        numerator <<= -rungs.exponent
    else:
        denominator <<= rungs.exponent
    last = len(rungs.magnitudes) - 1
    # Rungs are whole numbers, so the whole part of the magnitude finds the rung below.
    lower = rungs.below(numerator // denominator)
    if isinstance(fmt, FloatFormat):
        # IEEE 754-2019, 7.4: every finite number beyond the largest one stands between it and infinity.
        lower = min(lower, last - 1)
    part = numerator - rungs.magnitudes[lower] * denominator
    step = rungs.magnitudes[lower + 1] - rungs.magnitudes[lower] if lower < last else 0
    return Between(lower=lower, part=part, whole=step * denominator)


def _goes_up(
    place: Between, rungs: Ladder, rounding: Rounding, random_bits: RandomBits | None, *, is_negative: bool
) -> bool:
    """Whether the neighbour of larger magnitude is the result."""
    if place.part == 0 or place.whole == 0:
        return False
    goes_up = False
    match rounding:
        case Rounding.NEAREST_EVEN:
            twice = 2 * place.part
            goes_up = twice > place.whole or (twice == place.whole and not rungs.is_even(place.lower))
        case Rounding.NEAREST_AWAY:
            goes_up = 2 * place.part >= place.whole
        case Rounding.TOWARD_POSITIVE:
            goes_up = not is_negative
        case Rounding.TOWARD_NEGATIVE:
            goes_up = is_negative
        case Rounding.STOCHASTIC:
            assert random_bits is not None
            full = 1 << random_bits.width
            goes_up = place.part * full // place.whole + random_bits.value >= full
    return goes_up


def outside(
    x: Datum,
    fmt: ElementFormat,
    *,
    overflow: Overflow,
    nan: NanRule,
    int_range: IntRange,
    is_zero: bool = False,
) -> int:
    """Code for a result outside the range, of the sign of `x`; `is_zero` if it is a zero that the format lacks."""
    least, most = _ends(fmt, int_range)
    saturates = overflow is Overflow.SATURATE or (overflow is Overflow.SATURATE_FINITE and x.is_finite)
    is_below = x.is_negative or is_zero
    if saturates:
        return least if is_below else most
    if isinstance(fmt, FloatFormat):
        infinite = infinity_number(fmt)
        if infinite is not None and (fmt.is_signed or not is_below):
            return infinite | (sign_bit(fmt) if x.is_negative else 0)
    return _nan(x, fmt, nan, int_range)


def _nan(x: Datum, fmt: ElementFormat, nan: NanRule, int_range: IntRange) -> int:
    code = nan_code(fmt, is_negative=x.is_negative and fmt.is_signed) if isinstance(fmt, FloatFormat) else None
    if code is not None:
        return code
    least, most = _ends(fmt, int_range)
    match nan:
        case NanRule.ERROR:
            raise NanError(f"{fmt.name} has no NaN, got {x}, which is or becomes one; choose another NanRule")
        case NanRule.MAX:
            return least if x.is_negative else most
        case NanRule.ZERO:
            zero = ladder(fmt, is_negative=False).zero_code
            assert zero is not None
            return zero


def _ends(fmt: ElementFormat, int_range: IntRange) -> tuple[int, int]:
    """Codes of the least and the greatest value."""
    match fmt:
        case FloatFormat():
            most = greatest_number(fmt)
            return (sign_bit(fmt) | most if fmt.is_signed else 0), most
        case IntFormat():
            codes = ladder(fmt, is_negative=False, int_range=int_range).codes
            return codes[0], codes[-1]
        case CodebookFormat():
            return 0, len(fmt.values) - 1


def round_to(x: Datum, fmt: FloatFormat, rounding: Rounding = Rounding.NEAREST_EVEN) -> Datum:
    """Round `x` to a value of `fmt`, with overflow to Inf or NaN, as IEEE 754 arithmetic does.

    >>> from fractions import Fraction
    >>> from incref.formats import FORMATS
    >>> from incref.oracle.datum import number
    >>> round_to(number(Fraction(1, 3)), FORMATS["bfloat16"]).value
    Fraction(171, 512)
    """
    return decode(encode(x, fmt, rounding=rounding, overflow=Overflow.NONSATURATE), fmt)
