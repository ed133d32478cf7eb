"""Shared exponents, by what each rule promises of them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, ScaleRule
from incref.oracle.ladder import greatest
from incref.oracle.powers import floor_log2, power_of_two
from incref.oracle.scales import even_threshold, shared_exponent

ELEMENTS = [fmt.element for fmt in FORMATS.values() if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale]
# Far from where exponents are clamped.
AMAX = st.fractions(min_value=Fraction(1, 10**20), max_value=10**20)


def element(name: str) -> FloatFormat | IntFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat | IntFormat)
    return fmt


@pytest.mark.parametrize(
    ("name", "emax"),
    [
        ("float8_e4m3fn", 8),
        ("float8_e5m2", 15),
        ("float6_e3m2fn", 4),
        ("float6_e2m3fn", 2),
        ("float4_e2m1fn", 2),
        ("mxint8_element", 0),
    ],
)
def test_floor_divides_by_the_greatest_power_of_two_of_the_element(name: str, emax: int) -> None:
    """OCP MX 1.0, 6.3, with the emax of each element format."""
    for amax, floor in ((Fraction(1), 0), (Fraction(2) - Fraction(1, 2**30), 0), (Fraction(2), 1), (Fraction(3), 1)):
        assert shared_exponent(amax, element(name), ScaleRule.FLOOR) == floor - emax


@given(fmt=st.sampled_from(ELEMENTS), amax=AMAX)
def test_floor_is_the_greatest_power_not_above_and_ceil_the_least_not_below(
    fmt: FloatFormat | IntFormat, amax: Fraction
) -> None:
    emax = floor_log2(greatest(fmt))
    floor = power_of_two(shared_exponent(amax, fmt, ScaleRule.FLOOR) + emax)
    ceil = power_of_two(shared_exponent(amax, fmt, ScaleRule.CEIL) + emax)
    assert floor <= amax < 2 * floor
    assert ceil / 2 < amax <= ceil


@given(fmt=st.sampled_from(ELEMENTS), amax=AMAX)
def test_rceil_is_the_least_scale_under_which_nothing_overflows(fmt: FloatFormat | IntFormat, amax: Fraction) -> None:
    scale = power_of_two(shared_exponent(amax, fmt, ScaleRule.RCEIL))
    assert amax / scale <= greatest(fmt) < amax / (scale / 2)


@given(fmt=st.sampled_from(ELEMENTS), amax=AMAX)
def test_even_is_floor_of_the_rounded_amax(fmt: FloatFormat | IntFormat, amax: Fraction) -> None:
    """Rounded half up to the precision of the element, by the textbook formula."""
    precision = fmt.mantissa_bits + 1 if isinstance(fmt, FloatFormat) else 7
    step = power_of_two(floor_log2(amax) - precision + 1)
    rounded = (amax / step + Fraction(1, 2)) // 1 * step
    assert shared_exponent(amax, fmt, ScaleRule.EVEN) == floor_log2(rounded) - floor_log2(greatest(fmt))


@pytest.mark.parametrize(
    ("name", "threshold"),
    [("float4_e2m1fn", "7/4"), ("float8_e4m3fn", "31/16"), ("float8_e5m2", "15/8"), ("mxint8_element", "255/128")],
)
def test_even_rounds_up_from_half_a_step_below_two(name: str, threshold: str) -> None:
    assert even_threshold(element(name)) == Fraction(threshold)


@pytest.mark.parametrize("rule", [ScaleRule.FLOOR, ScaleRule.CEIL, ScaleRule.EVEN, ScaleRule.RCEIL])
@pytest.mark.parametrize("fmt", ELEMENTS, ids=lambda fmt: fmt.name)
def test_exponents_are_clamped_to_e8m0(fmt: FloatFormat | IntFormat, rule: ScaleRule) -> None:
    assert shared_exponent(Fraction(0), fmt, rule) == -127
    assert shared_exponent(power_of_two(-149), fmt, rule) == -127
    assert shared_exponent(power_of_two(200), fmt, rule) == 127


@pytest.mark.parametrize("rule", [ScaleRule.DIVIDE, ScaleRule.RECIPROCAL])
def test_other_rules_give_other_scales(rule: ScaleRule) -> None:
    with pytest.raises(ValueError, match="does not give powers of two"):
        shared_exponent(Fraction(1), element("float4_e2m1fn"), rule)
