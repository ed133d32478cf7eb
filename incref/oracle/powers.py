"""Powers of two and exact binary logarithms of rational numbers."""

from fractions import Fraction

__all__ = ["ceil_log2", "floor_log2", "power_of_two"]


def power_of_two(exponent: int) -> Fraction:
    """`2**exponent`, exactly."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def floor_log2(x: Fraction) -> int:
    """The greatest integer e with `2**e <= x`, for positive x.

    >>> floor_log2(Fraction(7)), floor_log2(Fraction(8)), floor_log2(Fraction(1, 3))
    (2, 3, -2)
    """
    if x <= 0:
        raise ValueError(f"only positive numbers have a logarithm, got {x}")
    # The lengths of numerator and denominator leave two candidates; the comparison decides.
    candidate = x.numerator.bit_length() - x.denominator.bit_length()
    return candidate if power_of_two(candidate) <= x else candidate - 1


def ceil_log2(x: Fraction) -> int:
    """The least integer e with `x <= 2**e`, for positive x.

    >>> ceil_log2(Fraction(7)), ceil_log2(Fraction(8)), ceil_log2(Fraction(1, 3))
    (3, 3, -1)
    """
    below = floor_log2(x)
    return below if power_of_two(below) == x else below + 1
