"""Affine codes: examples, and Python's and numpy's roundings as witnesses."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.errors import NanError
from incref.formats import FORMATS, FloatFormat, IntFormat, IntRange, NanRule, Rounding, ScaleArithmetic
from incref.oracle.affine import quantize_affine, round_to_integer
from incref.oracle.datum import Datum, Kind, datum_of
from incref.oracle.encode import RandomBits

FLOAT32 = FORMATS["float32"]
assert isinstance(FLOAT32, FloatFormat)
ONE = datum_of(1.0)


def integer(name: str) -> IntFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, IntFormat)
    return fmt


@given(x=st.fractions())
def test_integers_are_rounded_as_python_rounds(x: Fraction) -> None:
    assert round_to_integer(x, Rounding.NEAREST_EVEN) == round(x)
    assert round_to_integer(x, Rounding.TOWARD_ZERO) == math.trunc(x)
    assert round_to_integer(x, Rounding.TOWARD_POSITIVE) == math.ceil(x)
    assert round_to_integer(x, Rounding.TOWARD_NEGATIVE) == math.floor(x)


@pytest.mark.parametrize(("x", "wanted"), [("5/2", 3), ("-5/2", -3), ("-7/3", -2), ("1/2", 1), ("2", 2)])
def test_nearest_away(x: str, wanted: int) -> None:
    assert round_to_integer(Fraction(x), Rounding.NEAREST_AWAY) == wanted


def test_stochastic_rounding_needs_and_uses_its_bits() -> None:
    ups = [
        round_to_integer(Fraction(-9, 8), Rounding.STOCHASTIC, RandomBits(value=value, width=3)) for value in range(8)
    ]
    assert ups == [-1] * 7 + [-2]
    with pytest.raises(ValueError, match="needs random_bits"):
        round_to_integer(Fraction(1, 2), Rounding.STOCHASTIC)


@given(
    x=st.floats(width=32, min_value=-1e6, max_value=1e6),
    scale=st.floats(width=32, min_value=2.0**-10, max_value=1e6),
    zero_point=st.integers(-128, 127),
    arithmetic=st.sampled_from(ScaleArithmetic),
)
def test_codes_are_rounded_as_numpy_rounds(
    x: float, scale: float, zero_point: int, arithmetic: ScaleArithmetic
) -> None:
    with np.errstate(under="ignore"):
        if arithmetic is ScaleArithmetic.DIVIDE:
            quotient = np.float32(x) / np.float32(scale)
        else:
            quotient = np.float32(x) * (np.float32(1.0) / np.float32(scale))
    wanted = min(max(int(np.rint(quotient)) + zero_point, -128), 127)
    found = quantize_affine(
        [datum_of(x)], integer("int8"), datum_of(scale), FLOAT32, zero_point=zero_point, arithmetic=arithmetic
    )
    assert found == [wanted]


def test_the_sum_is_clamped_and_not_the_quotient() -> None:
    xs = [datum_of(x) for x in (-200.0, 300.0)]
    assert quantize_affine(xs, integer("uint8"), ONE, FLOAT32, zero_point=210) == [10, 255]


@pytest.mark.parametrize(("int_range", "least"), [(IntRange.FULL, -8), (IntRange.RESTRICTED, -7)])
def test_the_range_ends_where_asked(int_range: IntRange, least: int) -> None:
    assert quantize_affine([datum_of(-100.0)], integer("int4"), ONE, FLOAT32, int_range=int_range) == [least]


def test_inf_goes_to_the_end_of_the_range() -> None:
    xs = [datum_of(math.inf), datum_of(-math.inf)]
    assert quantize_affine(xs, integer("uint4"), ONE, FLOAT32, zero_point=3) == [15, 0]


@pytest.mark.parametrize(("nan", "codes"), [(NanRule.MAX, [15, 0]), (NanRule.ZERO, [3, 3])])
def test_nan_follows_its_rule(nan: NanRule, codes: list[int]) -> None:
    xs = [Datum(kind=Kind.NAN), Datum(kind=Kind.NAN, is_negative=True)]
    assert quantize_affine(xs, integer("uint4"), ONE, FLOAT32, zero_point=3, nan=nan) == codes
    with pytest.raises(NanError):
        quantize_affine(xs, integer("uint4"), ONE, FLOAT32)
