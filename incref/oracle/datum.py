"""What a code can mean: a real number with the sign of zero kept, an infinity, or NaN."""

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

__all__ = ["NAN", "Datum", "Kind", "datum_of", "infinity", "number"]


class Kind(Enum):
    """Sort of a datum."""

    FINITE = "finite"
    INFINITE = "infinite"
    NAN = "nan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Datum:
    """A floating-point datum in the sense of IEEE 754-2019, 3.2: exact, and with a sign even if it is zero or NaN.

    Attributes:
        kind: what it is.
        is_negative: its sign bit.
        magnitude: its absolute value; 0 unless it is finite.
    """

    kind: Kind = Kind.FINITE
    is_negative: bool = False
    magnitude: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        """Refuse a magnitude that is negative, or that stands beside Inf or NaN."""
        if self.magnitude.numerator < 0 or (self.magnitude and self.kind is not Kind.FINITE):
            raise ValueError(f"a magnitude is not negative, and 0 for {Kind.INFINITE} and {Kind.NAN}, got {self}")

    @property
    def is_finite(self) -> bool:
        """Whether it is a number."""
        return self.kind is Kind.FINITE

    @property
    def is_nan(self) -> bool:
        """Whether it is NaN."""
        return self.kind is Kind.NAN

    @property
    def value(self) -> Fraction:
        """The real number that it is.

        Raises:
            ValueError: if it is Inf or NaN.
        """
        if self.kind is not Kind.FINITE:
            raise ValueError(f"only finite data have a value, got {self}")
        return -self.magnitude if self.is_negative else self.magnitude


NAN = Datum(kind=Kind.NAN)
"""The NaN with sign bit 0."""


def number(value: Fraction | int, *, is_negative: bool | None = None) -> Datum:
    """Make a datum of a real number; `is_negative` gives zero its sign.

    >>> number(Fraction(-3, 4)).magnitude
    Fraction(3, 4)
    """
    sign = value < 0 if is_negative is None else is_negative
    return Datum(is_negative=sign, magnitude=abs(Fraction(value)))


def infinity(*, is_negative: bool = False) -> Datum:
    """Make an infinity."""
    return Datum(kind=Kind.INFINITE, is_negative=is_negative)


def datum_of(x: float) -> Datum:
    """Read a Python float exactly.

    >>> datum_of(-0.0)
    Datum(kind=<Kind.FINITE: 'finite'>, is_negative=True, magnitude=Fraction(0, 1))
    """
    is_negative = math.copysign(1.0, x) < 0
    if math.isnan(x):
        return Datum(kind=Kind.NAN, is_negative=is_negative)
    if math.isinf(x):
        return infinity(is_negative=is_negative)
    return Datum(is_negative=is_negative, magnitude=abs(Fraction(x)))
