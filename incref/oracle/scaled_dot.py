"""Dot products of scaled values, with the roundings that follow the exact sum."""

from collections.abc import Sequence

from incref.formats import FORMATS, FloatFormat, ScaleOrder
from incref.oracle.arithmetic import multiply
from incref.oracle.datum import Datum
from incref.oracle.dot import add, exact_sum
from incref.oracle.encode import round_to

__all__ = ["Scaled", "scale_sums", "scaled_dot"]

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

    >>> from incref.oracle.datum import datum_of, number
    >>> half, three = datum_of(0.5), number(3)
    >>> scaled_dot([(three, half)], [(three, None)], order=ScaleOrder.EXACT, stretch=1, bias=None, to=_FLOAT32).value
    Fraction(9, 2)
    """
    products = [multiply(x, w) for (x, _), (w, _) in zip(xs, ws, strict=True)]
    scales = [(x, w) for (_, x), (_, w) in zip(xs, ws, strict=True)]
    if order is ScaleOrder.EXACT or (bias is None and all(pair == (None, None) for pair in scales)):
        terms = [_times(_times(value, x), w) for value, (x, w) in zip(products, scales, strict=True)]
        return round_to(exact_sum(terms if bias is None else [*terms, bias]), to)
    starts = range(0, max(len(products), 1), stretch)
    sums = [exact_sum(products[start : start + stretch]) for start in starts]
    of_sums = [scales[start] if scales else (None, None) for start in starts]
    return scale_sums(sums, of_sums, order=order, bias=bias, to=to)


def scale_sums(
    sums: Sequence[Datum],
    scales: Sequence[tuple[Datum | None, Datum | None]],
    *,
    order: ScaleOrder,
    bias: Datum | None,
    to: FloatFormat,
) -> Datum:
    """Do to the exact sums of stretches what `ScaleOrder` says, in any order but EXACT.

    Args:
        sums: of the products in each stretch.
        scales: of `x` and of `w` in each; None for 1.
        order: where scales enter.
        bias: what is added, or None.
        to: format of the result.
    """
    total: Datum | None = None
    for exact, (x, w) in zip(sums, scales, strict=True):
        part = _scale(round_to(exact, _FLOAT32), x, w, order)
        total = part if total is None else round_to(add(total, part), _FLOAT32)
    assert total is not None
    if bias is not None:
        total = round_to(add(total, bias), _FLOAT32)
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
