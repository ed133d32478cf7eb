"""Which codes of a float format are set apart for NaN and Inf, read from the documents that define the formats.

A code is written here as its sign bit and its *number*: the other bits, exponent field on top.
"""

from incref.formats import FloatFormat, Specials

__all__ = ["greatest_number", "infinity_number", "is_nan", "nan_code", "sign_bit"]


def sign_bit(fmt: FloatFormat) -> int:
    """The sign bit in its place: the top one, or 0 where there is none."""
    return 1 << (fmt.exponent_bits + fmt.mantissa_bits) if fmt.is_signed else 0


def _last_number(fmt: FloatFormat) -> int:
    return (1 << (fmt.exponent_bits + fmt.mantissa_bits)) - 1


def infinity_number(fmt: FloatFormat) -> int | None:
    """Number of Inf, or None.

    IEEE 754-2019, 3.4: exponent field all ones, trailing significand 0. P3109: the last code, or, in unsigned formats,
    the one before NaN.
    """
    if fmt.specials is Specials.IEEE:
        all_ones = (1 << fmt.exponent_bits) - 1
        return all_ones << fmt.mantissa_bits
    if fmt.specials is Specials.EXTENDED:
        return _last_number(fmt) if fmt.is_signed else _last_number(fmt) - 1
    return None


def is_nan(code: int, fmt: FloatFormat) -> bool:
    """Whether a code is a NaN.

    IEEE 754-2019, 3.4: exponent field all ones, trailing significand not 0. OFP8 1.0 (E4M3) and MX 1.0 (E8M0): all bits
    but the sign are ones. The fnuz formats and signed P3109: only the sign bit is set. Unsigned P3109: the last code.
    MX 1.0, 5.3.2 and 5.3.3 (FP6 and FP4): none.
    """
    sign, number = code & sign_bit(fmt), code & ~sign_bit(fmt)
    match fmt.specials:
        case Specials.IEEE:
            exponent_field, significand = divmod(number, 1 << fmt.mantissa_bits)
            return exponent_field == (1 << fmt.exponent_bits) - 1 and significand != 0
        case Specials.FN:
            return number == _last_number(fmt)
        case Specials.FNUZ:
            return sign != 0 and number == 0
        case Specials.EXTENDED:
            return sign != 0 and number == 0 if fmt.is_signed else number == _last_number(fmt)
        case Specials.FINITE:
            return False


def nan_code(fmt: FloatFormat, *, is_negative: bool) -> int | None:
    """Code that a NaN is encoded as, or None.

    The one NaN there is, with the sign where it has one; of many, the quiet one whose payload is 0 (IEEE 754-2019,
    6.2.1: the first bit of the trailing significand is 1).
    """
    sign = sign_bit(fmt) if is_negative else 0
    match fmt.specials:
        case Specials.IEEE:
            all_ones = (1 << fmt.exponent_bits) - 1
            quiet = 1 << (fmt.mantissa_bits - 1)
            return sign | (all_ones << fmt.mantissa_bits) | quiet
        case Specials.FN:
            return sign | _last_number(fmt)
        case Specials.FNUZ:
            return sign_bit(fmt)
        case Specials.EXTENDED:
            return sign_bit(fmt) if fmt.is_signed else _last_number(fmt)
        case Specials.FINITE:
            return None


def greatest_number(fmt: FloatFormat) -> int:
    """Number of the largest finite value: the last one below Inf and NaN."""
    infinite = infinity_number(fmt)
    if infinite is not None:
        return infinite - 1
    last = _last_number(fmt)
    return last - 1 if is_nan(last, fmt) else last
