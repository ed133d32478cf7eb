"""Dot products: the exact sum of exact products, rounded once."""

from collections.abc import Sequence
from fractions import Fraction

from incref.formats import FloatFormat, Rounding
from incref.oracle.arithmetic import multiply
from incref.oracle.datum import NAN, Datum, Kind, number
from incref.oracle.encode import round_to

__all__ = ["add", "dot", "exact_sum"]


def dot(a: Sequence[Datum], b: Sequence[Datum], fmt: FloatFormat, rounding: Rounding = Rounding.NEAREST_EVEN) -> Datum:
    """Round the exact dot product of `a` and `b` to a value of `fmt`.

    Scaled operands come in decoded (`decode_block`), so that scales are part of the exact products.

    Args:
        a: left operand.
        b: right operand, as long.
        fmt: format of the result.
        rounding: of the one rounding.

    Returns:
        The rounded sum. NaN if a product is NaN or infinities of both signs meet; a sum that is exactly 0 is +0.

    >>> from incref.formats import FORMATS
    >>> from incref.oracle.datum import datum_of
    >>> a, b = [datum_of(2.0**127), datum_of(1.0), datum_of(-(2.0**127))], [datum_of(2.0)] * 3
    >>> dot(a, b, FORMATS["float32"]).value
    Fraction(2, 1)
    """
    return round_to(exact_sum([multiply(x, y) for x, y in zip(a, b, strict=True)]), fmt, rounding)


def exact_sum(terms: Sequence[Datum]) -> Datum:
    """Add up exactly."""
    infinite = [term for term in terms if term.kind is Kind.INFINITE]
    if any(term.is_nan for term in terms) or len({term.is_negative for term in infinite}) > 1:
        return NAN
    if infinite:
        return infinite[0]
    return number(sum((term.value for term in terms), Fraction(0)))


def add(a: Datum, b: Datum) -> Datum:
    """Add exactly; -0 only where both are (IEEE 754-2019, 6.3)."""
    if all(x.is_finite and x.value == 0 and x.is_negative for x in (a, b)):
        return number(0, is_negative=True)
    return exact_sum([a, b])
