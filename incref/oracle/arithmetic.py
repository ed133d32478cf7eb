"""Exact product and quotient of data, with the special cases of IEEE 754-2019, 6 and 7.

Nothing is rounded here; `round_to` follows where an operation rounds. A NaN operand is the result, the first one of
two; the standard leaves the sign of NaN open (6.3).
"""

from incref.oracle.datum import NAN, Datum, infinity

__all__ = ["divide", "multiply"]


def multiply(a: Datum, b: Datum) -> Datum:
    """Multiply exactly; `0 * Inf` is NaN.

    >>> from incref.oracle.datum import datum_of
    >>> multiply(datum_of(-0.5), datum_of(3.0)).value
    Fraction(-3, 2)
    """
    is_negative = a.is_negative != b.is_negative
    if a.is_nan or b.is_nan:
        return a if a.is_nan else b
    if a.is_finite and b.is_finite:
        return Datum(is_negative=is_negative, magnitude=a.magnitude * b.magnitude)
    if _is_zero(a) or _is_zero(b):
        return NAN
    return infinity(is_negative=is_negative)


def divide(a: Datum, b: Datum) -> Datum:
    """Divide exactly; `0 / 0` and `Inf / Inf` are NaN, other quotients by zero are Inf."""
    is_negative = a.is_negative != b.is_negative
    if a.is_nan or b.is_nan:
        return a if a.is_nan else b
    if (_is_zero(a) and _is_zero(b)) or not (a.is_finite or b.is_finite):
        return NAN
    if not a.is_finite or _is_zero(b):
        return infinity(is_negative=is_negative)
    if not b.is_finite:
        return Datum(is_negative=is_negative)
    return Datum(is_negative=is_negative, magnitude=a.magnitude / b.magnitude)


def _is_zero(x: Datum) -> bool:
    return x.is_finite and x.magnitude == 0
