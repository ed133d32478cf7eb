"""Shared exponents: the power of two that a block's largest magnitude gives, by each rule, by exact comparison."""

from fractions import Fraction

from incref.formats import ElementFormat, FloatFormat, IntFormat, ScaleRule
from incref.oracle.ladder import greatest
from incref.oracle.powers import ceil_log2, floor_log2, power_of_two

__all__ = ["GREATEST_EXPONENT", "LEAST_EXPONENT", "even_threshold", "shared_exponent"]

LEAST_EXPONENT = -127
"""Exponent of code 0 of E8M0 (OCP MX 1.0, 5.4.1)."""

GREATEST_EXPONENT = 127
"""Exponent of code 254, the last one before NaN."""


def shared_exponent(amax: Fraction, fmt: ElementFormat, rule: ScaleRule) -> int:
    """Exponent of the scale of a block, clamped to what E8M0 holds.

    Args:
        amax: the largest magnitude in the block; for 0 the answer is the least exponent.
        fmt: format of the elements.
        rule: one that gives powers of two; `ScaleRule` has the formulas.

    >>> from incref.formats import get_format
    >>> [shared_exponent(Fraction(6), get_format("e2m1"), rule) for rule in (ScaleRule.FLOOR, ScaleRule.CEIL)]
    [0, 1]

    Raises:
        ValueError: for a rule that gives other scales.
    """
    if amax == 0:
        return LEAST_EXPONENT
    most = greatest(fmt)
    emax = floor_log2(most)
    match rule:
        case ScaleRule.FLOOR:
            exponent = floor_log2(amax) - emax
        case ScaleRule.CEIL:
            exponent = ceil_log2(amax) - emax
        case ScaleRule.EVEN:
            below = floor_log2(amax)
            significand = amax / power_of_two(below)
            exponent = below + (significand >= even_threshold(fmt)) - emax
        case ScaleRule.RCEIL:
            exponent = ceil_log2(amax / most)
        case _:
            raise ValueError(f"{rule} does not give powers of two; FLOOR, CEIL, EVEN and RCEIL do")
    return min(max(exponent, LEAST_EXPONENT), GREATEST_EXPONENT)


def even_threshold(fmt: ElementFormat) -> Fraction:
    """Least significand that EVEN rounds up to 2: half a step from it, in the precision of the element.

    The precision of a float is `mantissa_bits + 1`, that of an integer the length of its greatest code.
    """
    if isinstance(fmt, FloatFormat):
        precision = fmt.mantissa_bits + 1
    elif isinstance(fmt, IntFormat):
        precision = fmt.bits - fmt.is_signed
    else:
        raise TypeError(f"EVEN needs a float or integer format, got {fmt.name}")
    return 2 - power_of_two(-precision)
