"""What every code of a format means, exactly."""

from fractions import Fraction

from incref.formats import CodebookFormat, ElementFormat, FloatFormat, IntFormat
from incref.oracle.datum import Datum, Kind, infinity, number
from incref.oracle.powers import power_of_two
from incref.oracle.specials import infinity_number, is_nan, sign_bit

__all__ = ["all_codes", "decode"]


def decode(code: int, fmt: ElementFormat) -> Datum:
    """Say what `code` means. A float bit pattern is a code of its format.

    Args:
        code: not negative; for signed integer formats the two's-complement integer itself, such as -128.
        fmt: a format whose codes stand alone.

    >>> from incref.formats import FORMATS
    >>> decode(0x3FC00000, FORMATS["float32"]).value
    Fraction(3, 2)

    Raises:
        ValueError: if the format has no such code.
    """
    if code not in all_codes(fmt):
        raise ValueError(f"{fmt.name} has the codes {all_codes(fmt)}, got {code}")
    if isinstance(fmt, IntFormat):
        return number(Fraction(code, 1 << fmt.fraction_bits))
    if isinstance(fmt, CodebookFormat):
        return number(Fraction(fmt.values[code]))
    return _decode_float(code, fmt)


def all_codes(fmt: ElementFormat) -> range:
    """Every code of a format, in ascending order."""
    if isinstance(fmt, IntFormat):
        half = 1 << (fmt.bits - 1)
        return range(-half, half) if fmt.is_signed else range(2 * half)
    if isinstance(fmt, CodebookFormat):
        return range(len(fmt.values))
    return range(1 << (fmt.is_signed + fmt.exponent_bits + fmt.mantissa_bits))


def _decode_float(code: int, fmt: FloatFormat) -> Datum:
    is_negative = bool(code & sign_bit(fmt))
    if is_nan(code, fmt):
        # A lone NaN in the place of -0 has a sign bit but no sign.
        only_one = is_nan(code, fmt) and not is_nan(code ^ sign_bit(fmt), fmt)
        return Datum(kind=Kind.NAN, is_negative=is_negative and not only_one)
    magnitude_bits = code & ~sign_bit(fmt)
    if magnitude_bits == infinity_number(fmt):
        return infinity(is_negative=is_negative)
    exponent_field, significand = divmod(magnitude_bits, 1 << fmt.mantissa_bits)
    fraction = Fraction(significand, 1 << fmt.mantissa_bits)
    if exponent_field == 0 and fmt.has_zero:
        magnitude = power_of_two(1 - fmt.bias) * fraction
    else:
        magnitude = power_of_two(exponent_field - fmt.bias) * (1 + fraction)
    return Datum(is_negative=is_negative, magnitude=magnitude)
