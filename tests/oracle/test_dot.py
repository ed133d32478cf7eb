"""Exact dot products, with `math.fsum` as the witness: it rounds an exact sum of floats once."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.formats import FORMATS, BlockFormat, FloatFormat, Rounding
from incref.oracle.blocks import decode_block
from incref.oracle.datum import Datum, Kind, datum_of, infinity
from incref.oracle.dot import dot, exact_sum

FLOAT32, FLOAT64 = FORMATS["float32"], FORMATS["float64"]
assert isinstance(FLOAT32, FloatFormat)
assert isinstance(FLOAT64, FloatFormat)


def data_of(*xs: float) -> list[Datum]:
    return [datum_of(x) for x in xs]


@given(xs=st.lists(st.floats(-1e300, 1e300), max_size=20), data=st.data())
def test_a_sum_is_exact_in_any_order(xs: list[float], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(xs))
    found = dot(data_of(*shuffled), data_of(*[1.0] * len(xs)), FLOAT64)
    assert found.value == Fraction(math.fsum(xs))


@given(xs=st.lists(st.floats(width=32, min_value=-(2.0**60), max_value=2.0**60), min_size=1, max_size=8))
def test_products_are_exact(xs: list[float]) -> None:
    """A product of two binary32 values fits binary64, whose sum `fsum` rounds once."""
    assert dot(data_of(*xs), data_of(*xs), FLOAT64).value == Fraction(math.fsum(x * x for x in xs))


def test_the_one_rounding_is_to_the_format() -> None:
    a, b = data_of(1.0, 2.0**-24, 2.0**-60), data_of(1.0, 1.0, 1.0)
    assert dot(a, b, FLOAT32).value == 1 + Fraction(1, 2**23)
    assert dot(a, b, FLOAT32, Rounding.TOWARD_ZERO).value == 1


def test_a_zero_sum_is_positive() -> None:
    assert dot([], [], FLOAT32) == datum_of(0.0)
    assert dot(data_of(-0.0), data_of(1.0), FLOAT32) == datum_of(0.0)
    assert dot(data_of(1.0, -1.0), data_of(1.0, 1.0), FLOAT32) == datum_of(0.0)


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        ((math.inf, 1.0), (2.0, 1.0), infinity()),
        ((math.inf, 1.0), (-2.0, math.inf), Datum(kind=Kind.NAN)),
        ((math.inf,), (0.0,), Datum(kind=Kind.NAN)),
        ((math.nan, 1.0), (1.0, 1.0), Datum(kind=Kind.NAN)),
        ((2.0**127, 2.0**127), (1.0, 1.0), infinity()),
        ((-(2.0**127), 2.0**127), (2.0, 2.0), datum_of(0.0)),
    ],
)
def test_specials_and_overflow(a: tuple[float, ...], b: tuple[float, ...], result: Datum) -> None:
    assert dot(data_of(*a), data_of(*b), FLOAT32) == result


def test_operands_must_be_as_long() -> None:
    with pytest.raises(ValueError, match="zip"):
        dot(data_of(1.0), [], FLOAT32)


def test_blocks_come_in_decoded() -> None:
    mxfp4 = FORMATS["mxfp4"]
    assert isinstance(mxfp4, BlockFormat)
    left, right = decode_block([0x7, 0xA], 130, mxfp4), decode_block([0x1, 0x4], 120, mxfp4)
    assert exact_sum([]) == datum_of(0.0)
    assert dot(left, right, FLOAT32).value == Fraction(6 * 1 - 1 * 4, 2) * Fraction(2) ** (3 - 7)
