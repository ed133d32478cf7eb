"""Powers of two from bit patterns, and the roundings that use them."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from incref.conformance.judge import assert_same_bits, data_of, values_of
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.numerics.accumulate.float_parts import add_rounded_once, power_of, round_result
from incref.oracle.datum import number
from incref.oracle.encode import round_to

FLOAT32 = FORMATS["float32"]
assert isinstance(FLOAT32, FloatFormat)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e40, max_value=1e40)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_power_of_a_number_is_its_leading_bit() -> None:
    assert power_of(double(0.0, -0.0, 1.0, -1.75, 0.3, 2.0**-1022)).tolist() == [0, 0, 1, 1, 0.25, 2.0**-1022]
    assert power_of(double(torch.inf, torch.nan)).tolist() == [torch.inf, torch.inf]


@given(x=DOUBLES, y=DOUBLES)
def test_a_sum_is_rounded_once(x: float, y: float) -> None:
    exact = number(Fraction(x) + Fraction(y))
    want = values_of([round_to(exact, FLOAT32)], torch.float32)
    got = add_rounded_once(double(x), double(y))
    assert got.item() == want.item()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sum_just_off_a_tie_is_not_taken_for_one(sign: float) -> None:
    tie = 1 + 2.0**-24
    for rest, want in ((2.0**-100, 1 + 2.0**-23), (-(2.0**-100), 1.0), (0.0, 1.0)):
        assert add_rounded_once(double(sign * tie), double(sign * rest)).item() == sign * want


def test_results_have_the_exponents_of_float32() -> None:
    exact = double(2.0**-126 * (1 + 2.0**-13), 2.0**-139, 1.75 * 2.0**-140, -(2.0**-149), 2.0**128, -(2.0**127) * 1.99)
    got = round_result(exact, 13, Rounding.TOWARD_ZERO, flushes=False)
    want = double(2.0**-126 * (1 + 2.0**-13), 2.0**-139, 0.0, 0.0, torch.inf, -(2.0**127) * (2 - 2.0**-6 * 0.75))
    assert_same_bits(got[:5], want[:5])
    assert got[5].item() == -(2.0**127) * (16302 / 8192)
    assert round_result(exact, 13, Rounding.TOWARD_ZERO, flushes=True)[:3].tolist() == [exact[0].item(), 0.0, 0.0]


def test_nearest_even_may_overflow() -> None:
    most = double(torch.finfo(torch.float32).max)
    assert round_result(most, 13, Rounding.NEAREST_EVEN, flushes=False).item() == torch.inf
    assert data_of(round_result(-most, 13, Rounding.TOWARD_ZERO, flushes=False))[0].is_finite
