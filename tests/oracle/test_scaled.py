"""Scaled floats, with numpy's arithmetic as the witness for the rounding of the quotient."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.formats import FORMATS, FloatFormat, Overflow, ScaleArithmetic
from incref.oracle.datum import datum_of
from incref.oracle.elements import ElementRules
from incref.oracle.encode import encode
from incref.oracle.scaled import dequantize, divide_by_scale, quantize_scaled


def floating(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


FLOAT32 = floating("float32")
SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(x=SINGLE, scale=SINGLE.filter(lambda scale: abs(scale) >= 2.0**-126))
def test_quotients_are_rounded_as_numpy_rounds(x: float, scale: float) -> None:
    with np.errstate(over="ignore", under="ignore"):
        quotient = np.float32(x) / np.float32(scale)
        product = np.float32(x) * (np.float32(1.0) / np.float32(scale))
    for arithmetic, wanted in ((ScaleArithmetic.DIVIDE, quotient), (ScaleArithmetic.RECIPROCAL, product)):
        assert divide_by_scale(datum_of(x), datum_of(scale), FLOAT32, arithmetic) == datum_of(float(wanted))


def test_the_two_orders_differ() -> None:
    by_division, by_reciprocal = (
        divide_by_scale(datum_of(5.0), datum_of(49.0), FLOAT32, arithmetic).value for arithmetic in ScaleArithmetic
    )
    assert abs(by_division - by_reciprocal) == Fraction(1, 2**27)
    assert abs(by_division - Fraction(5, 49)) < abs(by_reciprocal - Fraction(5, 49))


def test_codes_are_those_of_the_rounded_quotients() -> None:
    xs = [datum_of(x) for x in (0.1, -1.0, 44.8)]
    scale = datum_of(float(np.float32(0.1)))
    assert quantize_scaled(xs, floating("float8_e4m3fn"), scale, FLOAT32) == [0x38, 0xD2, 0x7E]


@pytest.mark.parametrize(
    ("overflow", "codes"),
    [
        (Overflow.SATURATE, [0x7B, 0x7B]),
        (Overflow.SATURATE_FINITE, [0x7B, 0x7C]),
        (Overflow.NONSATURATE, [0x7C, 0x7C]),
    ],
)
def test_a_quotient_beyond_the_working_format_is_still_finite(overflow: Overflow, codes: list[int]) -> None:
    xs = [datum_of(2.0**127), datum_of(math.inf)]
    found = quantize_scaled(
        xs, floating("float8_e5m2"), datum_of(2.0**-126), FLOAT32, elements=ElementRules(overflow=overflow)
    )
    assert found == codes


def test_a_nan_scale_makes_nan() -> None:
    fmt = floating("float8_e4m3fn")
    assert quantize_scaled([datum_of(1.0)], fmt, datum_of(math.nan), FLOAT32) == [encode(datum_of(math.nan), fmt)]


@given(x=SINGLE, scale=SINGLE)
def test_products_are_rounded_twice_as_numpy_rounds(x: float, scale: float) -> None:
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(x) * np.float32(scale)
        half = np.float16(product)
    found = dequantize([datum_of(x)], datum_of(scale), FLOAT32, floating("float16"))
    assert found == [datum_of(float(half))]


def test_a_narrow_format_rounds_the_reciprocal_and_the_product() -> None:
    bfloat16 = floating("bfloat16")
    scale = float(np.float32(1 / 1.3))
    by = ml_dtypes.bfloat16(np.float32(1.0) / np.float32(scale))
    for x in (1.0, 1.359375, -3.25, 250.0):
        found = divide_by_scale(datum_of(x), datum_of(scale), FLOAT32, ScaleArithmetic.RECIPROCAL, bfloat16)
        assert found == datum_of(float(ml_dtypes.bfloat16(x * float(by))))
        found = divide_by_scale(datum_of(x), datum_of(scale), FLOAT32, ScaleArithmetic.DIVIDE, bfloat16)
        assert found == datum_of(float(ml_dtypes.bfloat16(x / float(ml_dtypes.bfloat16(scale)))))
