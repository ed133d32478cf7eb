from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.oracle.powers import ceil_log2, floor_log2, power_of_two

POSITIVE = st.fractions(min_value=Fraction(1, 10**60), max_value=Fraction(10**60)).filter(bool)


@given(POSITIVE)
def test_floor_log2_is_the_greatest_exponent_below(x: Fraction) -> None:
    exponent = floor_log2(x)
    assert power_of_two(exponent) <= x < power_of_two(exponent + 1)


@given(POSITIVE)
def test_ceil_log2_is_the_least_exponent_above(x: Fraction) -> None:
    exponent = ceil_log2(x)
    assert power_of_two(exponent - 1) < x <= power_of_two(exponent)


@pytest.mark.parametrize("exponent", [-1074, -127, -1, 0, 1, 127, 1023])
def test_logarithms_of_powers_are_exact(exponent: int) -> None:
    x = power_of_two(exponent)
    assert floor_log2(x) == ceil_log2(x) == exponent
    below, above = x * Fraction(2**53 - 1, 2**53), x * Fraction(2**53 + 1, 2**53)
    assert (floor_log2(below), ceil_log2(below)) == (exponent - 1, exponent)
    assert (floor_log2(above), ceil_log2(above)) == (exponent, exponent + 1)


@pytest.mark.parametrize("x", [0, -1])
def test_only_positive_numbers_have_one(x: int) -> None:
    with pytest.raises(ValueError, match="only positive numbers"):
        floor_log2(Fraction(x))
