"""The magnitudes that a format holds with one sign, in ascending order: the list that encoding searches."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import overload

from incref.formats import CodebookFormat, ElementFormat, FloatFormat, IntFormat, IntRange, Specials
from incref.oracle.specials import greatest_number, sign_bit

__all__ = ["Ladder", "greatest", "ladder"]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Magnitudes with one sign, from zero up to the first one beyond the range (a codebook has no such one).

    Attributes:
        magnitudes: ascending, the first 0, in units of `2**exponent`.
        exponent: the unit's exponent.
        numbers: the code of each rung, or what it would be beyond the range; its parity decides ties.
        codes: those of the numbers that are codes of the format.
        zero_code: code of the first rung, or None if the format has no zero.
    """

    magnitudes: Sequence[int]
    exponent: int
    numbers: range
    codes: range
    zero_code: int | None

    def code(self, rung: int) -> int | None:
        """Code of a rung, or None if it is outside the range."""
        if rung == 0:
            return self.zero_code
        number = self.numbers[rung]
        return number if number in self.codes else None

    def below(self, whole: int) -> int:
        """The highest rung that is not above `whole` units."""
        if isinstance(self.magnitudes, _FloatMagnitudes):
            return self.magnitudes.below(whole)
        return bisect_right(self.magnitudes, whole) - 1

    def is_even(self, rung: int) -> bool:
        """Whether ties go to this rung rather than to its neighbours."""
        return self.numbers[rung] % 2 == 0


@cache
def ladder(fmt: ElementFormat, *, is_negative: bool, int_range: IntRange = IntRange.FULL) -> Ladder:
    """Build the ladder of one sign. `int_range` counts for signed integers only."""
    if isinstance(fmt, FloatFormat):
        return _float_ladder(fmt, is_negative=is_negative)
    if isinstance(fmt, IntFormat):
        return _int_ladder(fmt, is_negative=is_negative, int_range=int_range)
    return _codebook_ladder(fmt, is_negative=is_negative)


def greatest(fmt: ElementFormat) -> Fraction:
    """The greatest finite value.

    >>> from incref.formats import get_format
    >>> greatest(get_format("e4m3fn"))
    Fraction(448, 1)
    """
    rungs = ladder(fmt, is_negative=False)
    last = max(i for i in range(len(rungs.numbers) - 2, len(rungs.numbers)) if rungs.code(i) is not None)
    return Fraction(rungs.magnitudes[last]) * Fraction(2) ** rungs.exponent


class _FloatMagnitudes(Sequence[int]):
    """Magnitudes of the numbers 0, 1, ... of a float format in units of its smallest step, computed when asked for."""

    def __init__(self, fmt: FloatFormat) -> None:
        self._fmt = fmt
        # A format without zero gets one below its first number; the number after the greatest is beyond the range.
        self._length = greatest_number(fmt) + 2 + (not fmt.has_zero)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, rung: int) -> int: ...
    @overload
    def __getitem__(self, rung: slice) -> Sequence[int]: ...
    def __getitem__(self, rung: int | slice) -> int | Sequence[int]:
        if isinstance(rung, slice):
            return [self[i] for i in range(*rung.indices(self._length))]
        if not 0 <= rung < self._length:
            raise IndexError(rung)
        if rung == 0:
            return 0
        number = rung if self._fmt.has_zero else rung - 1
        implicit_one = 1 << self._fmt.mantissa_bits
        field, significand = divmod(number, implicit_one)
        if not self._fmt.has_zero:
            return (implicit_one + significand) << field
        return significand if field == 0 else (implicit_one + significand) << (field - 1)

    def below(self, whole: int) -> int:
        """The highest rung not above `whole`: its leading bits are the significand, how many follow is the field."""
        if not self._fmt.has_zero:
            return bisect_right(self, whole) - 1
        cut = max(whole.bit_length() - (self._fmt.mantissa_bits + 1), 0)
        return min((cut << self._fmt.mantissa_bits) + (whole >> cut), self._length - 1)


def _float_ladder(fmt: FloatFormat, *, is_negative: bool) -> Ladder:
    magnitudes: Sequence[int] = _FloatMagnitudes(fmt)
    if fmt.exponent_bits + fmt.mantissa_bits < 16:
        magnitudes = tuple(magnitudes)
    sign = sign_bit(fmt) if is_negative else 0
    first = sign if fmt.has_zero else sign - 1
    has_negative_zero = fmt.is_signed and fmt.specials not in (Specials.FNUZ, Specials.EXTENDED)
    zero_code = (sign if has_negative_zero else 0) if fmt.has_zero else None
    is_out_of_range = is_negative and not fmt.is_signed
    return Ladder(
        magnitudes=magnitudes,
        exponent=(1 if fmt.has_zero else 0) - fmt.bias - fmt.mantissa_bits,
        numbers=range(first, first + len(magnitudes)),
        codes=range(0) if is_out_of_range else range(sign, sign + greatest_number(fmt) + 1),
        zero_code=zero_code,
    )


def _int_ladder(fmt: IntFormat, *, is_negative: bool, int_range: IntRange) -> Ladder:
    most = (1 << (fmt.bits - 1)) - 1 if fmt.is_signed else (1 << fmt.bits) - 1
    least = -most - (int_range is IntRange.FULL) if fmt.is_signed else 0
    beyond = least - 1 if is_negative else most + 1
    return Ladder(
        magnitudes=range(abs(beyond) + 1),
        exponent=-fmt.fraction_bits,
        numbers=range(0, beyond - 1, -1) if is_negative else range(beyond + 1),
        codes=range(least, most + 1),
        zero_code=0,
    )


def _codebook_ladder(fmt: CodebookFormat, *, is_negative: bool) -> Ladder:
    values = [Fraction(v) for v in fmt.values]
    zero = values.index(Fraction(0))
    unit = max(v.denominator for v in values)
    numbers = range(zero, -1, -1) if is_negative else range(zero, len(values))
    return Ladder(
        magnitudes=tuple(int(abs(values[number]) * unit) for number in numbers),
        exponent=-(unit.bit_length() - 1),
        numbers=numbers,
        codes=range(len(values)),
        zero_code=zero,
    )
