"""Dot products of scaled values, with the roundings that follow the exact sum."""

from collections.abc import Sequence

from incref.formats import FORMATS, FloatFormat, ScaleOrder
from incref.oracle.arithmetic import multiply
from incref.oracle.datum import Datum, number
from incref.oracle.dot import exact_sum
from incref.oracle.encode import round_to

__all__ = ["Scaled", "scaled_dot"]

Scaled = Sequence[tuple[Datum, Datum | None]]
"""Values, each with its scale or None for 1."""


def _binary32() -> FloatFormat:
    fmt = FORMATS["float32"]
    assert isinstance(fmt, FloatFormat)
    return fmt


_FLOAT32 = _binary32()


def scaled_dot(
    xs: Scaled, ws: Scaled, *, order: ScaleOrder, stretch: int, bias: Datum | None, to: FloatFormat
) -> Datum:
    """Multiply and add up, as `ScaleOrder` says.

    Args:
        xs: values of `x`.
        ws: values of `w`, as many.
        order: where scales enter.
        stretch: how many consecutive values share their scales.
        bias: what is added, or None.
        to: format of the result.

    >>> from incref.oracle.datum import datum_of
    >>> half, three = datum_of(0.5), number(3)
    >>> scaled_dot([(three, half)], [(three, None)], order=ScaleOrder.EXACT, stretch=1, bias=None, to=_FLOAT32).value
    Fraction(9, 2)
    """
    products = [multiply(x, w) for (x, _), (w, _) in zip(xs, ws, strict=True)]
    scales = [(x, w) for (_, x), (_, w) in zip(xs, ws, strict=True)]
    more = [] if bias is None else [bias]
    if order is ScaleOrder.EXACT or (not more and all(pair == (None, None) for pair in scales)):
        terms = [_times(_times(value, x), w) for value, (x, w) in zip(products, scales, strict=True)]
        return round_to(exact_sum([*terms, *more]), to)
    total: Datum | None = None
    for start in range(0, max(len(products), 1), stretch):
        acc = round_to(exact_sum(products[start : start + stretch]), _FLOAT32)
        part = _scale(acc, *scales[start], order) if scales else acc
        total = part if total is None else round_to(_add(total, part), _FLOAT32)
    assert total is not None
    for term in more:
        total = round_to(_add(total, term), _FLOAT32)
    return round_to(total, to)


def _times(value: Datum, scale: Datum | None) -> Datum:
    return value if scale is None else multiply(value, scale)


def _scale(acc: Datum, x: Datum | None, w: Datum | None, order: ScaleOrder) -> Datum:
    if order is ScaleOrder.PRODUCT and x is not None and w is not None:
        return round_to(multiply(acc, round_to(multiply(x, w), _FLOAT32)), _FLOAT32)
    first, second = (w, x) if order is ScaleOrder.W_THEN_X else (x, w)
    for scale in (first, second):
        acc = round_to(_times(acc, scale), _FLOAT32)
    return acc


def _add(a: Datum, b: Datum) -> Datum:
    """The exact sum; -0 only where both are (IEEE 754-2019, 6.3)."""
    if all(x.is_finite and x.value == 0 and x.is_negative for x in (a, b)):
        return number(0, is_negative=True)
    return exact_sum([a, b])
