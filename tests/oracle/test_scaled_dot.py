"""Scaled dot products: each order of the roundings, on values that tell them apart."""

from fractions import Fraction

import pytest

from incref.formats import FORMATS, FloatFormat, ScaleOrder
from incref.oracle.datum import Datum, datum_of, number
from incref.oracle.scaled_dot import scaled_dot

FLOAT32, BFLOAT16 = FORMATS["float32"], FORMATS["bfloat16"]
assert isinstance(FLOAT32, FloatFormat)
assert isinstance(BFLOAT16, FloatFormat)
ULP = 2.0**-23


def run(acc: float, x: float, w: float, order: ScaleOrder, bias: Datum | None = None) -> Fraction:
    xs, ws = [(datum_of(acc), datum_of(x))], [(number(1), datum_of(w))]
    return scaled_dot(xs, ws, order=order, stretch=1, bias=bias, to=FLOAT32).value


def test_orders_round_differently() -> None:
    # Computed in binary32 by PyTorch, the exact one by way of binary64, which holds a product of two and rounds beyond
    # the tie of the third.
    acc, x, w = 1 + 2166778 * ULP, 1 + 111508 * ULP, 1 + 3232313 * ULP
    assert {order: float(run(acc, x, w, order)).hex() for order in ScaleOrder} == {
        ScaleOrder.X_THEN_W: "0x1.c42dac0000000p+0",
        ScaleOrder.W_THEN_X: "0x1.c42daa0000000p+0",
        ScaleOrder.PRODUCT: "0x1.c42da80000000p+0",
        ScaleOrder.EXACT: "0x1.c42daa0000000p+0",
    }


def test_stretches_are_added_in_order() -> None:
    big, one = datum_of(2.0**24), number(1)
    xs = [(big, one), (one, one), (one, one)]
    ws = [(one, one)] * 3
    assert scaled_dot(xs, ws, order=ScaleOrder.PRODUCT, stretch=1, bias=None, to=FLOAT32).value == 2**24
    assert scaled_dot(xs, ws, order=ScaleOrder.PRODUCT, stretch=3, bias=None, to=FLOAT32).value == 2**24 + 2
    assert scaled_dot(xs, ws, order=ScaleOrder.EXACT, stretch=1, bias=None, to=FLOAT32).value == 2**24 + 2


def test_without_scales_there_is_one_rounding() -> None:
    tie = Fraction(1, 2**8)
    xs = [(number(1), None), (number(tie + Fraction(1, 2**40)), None)]
    ws = [(number(1), None)] * 2
    # By way of float32 this would be a tie, and go to 1.
    for order in ScaleOrder:
        assert scaled_dot(xs, ws, order=order, stretch=2, bias=None, to=BFLOAT16).value == 1 + 2 * tie
    biased = scaled_dot(xs, ws, order=ScaleOrder.PRODUCT, stretch=2, bias=number(0), to=BFLOAT16)
    assert biased.value == 1


@pytest.mark.parametrize("order", ScaleOrder)
def test_a_zero_sum_is_positive_until_it_is_scaled(order: ScaleOrder) -> None:
    xs, ws = [(datum_of(-0.0), datum_of(-1.0))], [(number(1), None)]
    found = scaled_dot(xs, ws, order=order, stretch=1, bias=None, to=FLOAT32)
    assert found == datum_of(0.0 if order is ScaleOrder.EXACT else -0.0)
    negative = scaled_dot(xs, ws, order=order, stretch=1, bias=datum_of(-0.0), to=FLOAT32)
    assert negative == found
