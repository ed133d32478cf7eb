"""Scales and zero points, with numpy's arithmetic as the witness for each rounding."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.formats import FORMATS, BlockFormat, ElementFormat, FloatFormat, IntFormat, ScaleRule, SymmetricScale
from incref.oracle.affine_scale import asymmetric_scale, extreme_of, least_scale, symmetric_scale
from incref.oracle.datum import Datum, datum_of

FLOAT32, FLOAT64 = FORMATS["float32"], FORMATS["float64"]
assert isinstance(FLOAT32, FloatFormat)
assert isinstance(FLOAT64, FloatFormat)
SINGLES = st.lists(st.floats(width=32, min_value=-(2.0**126), max_value=2.0**126), min_size=1, max_size=8)
INTEGERS = [fmt for fmt in FORMATS.values() if isinstance(fmt, IntFormat) and fmt.bits <= 8 and not fmt.fraction_bits]
SIGNED = [fmt for fmt in INTEGERS if fmt.is_signed]
RULES = [ScaleRule.DIVIDE, ScaleRule.RECIPROCAL]


def element(name: str) -> ElementFormat:
    fmt = FORMATS[name]
    assert not isinstance(fmt, BlockFormat)
    return fmt


def integer(name: str) -> IntFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, IntFormat)
    return fmt


def data_of(*xs: float) -> list[Datum]:
    return [datum_of(x) for x in xs]


def scaled(size: np.floating, end: float, rule: ScaleRule) -> np.floating:
    dtype = size.dtype.type
    with np.errstate(under="ignore", over="ignore"):
        scale = size / dtype(end) if rule is ScaleRule.DIVIDE else size * (dtype(1.0) / dtype(end))
    return max(scale, np.finfo(dtype).smallest_normal)


@given(xs=SINGLES.filter(any), fmt=st.sampled_from(SIGNED), rule=st.sampled_from(RULES))
def test_symmetric_scales_are_rounded_as_numpy_rounds(xs: list[float], fmt: IntFormat, rule: ScaleRule) -> None:
    amax = np.float32(max(abs(x) for x in xs))
    for kind, end in (
        (SymmetricScale.QMAX, 2 ** (fmt.bits - 1) - 1),
        (SymmetricScale.SPAN, (2**fmt.bits - 1) / 2),
        (SymmetricScale.EXTREME, 2 ** (fmt.bits - 1)),
    ):
        found = symmetric_scale(data_of(*xs), fmt, FLOAT32, rule=rule, kind=kind)
        assert found.magnitude == Fraction(float(scaled(amax, end, rule)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "end"), [("float8_e4m3fn", 448.0), ("float8_e4m3fnuz", 240.0), ("nf4", 1.0)])
def test_other_formats_put_amax_on_their_greatest_value(name: str, end: float, rule: ScaleRule) -> None:
    found = symmetric_scale(data_of(-0.1, 0.3), element(name), FLOAT64, rule=rule)
    assert found.value == Fraction(float(scaled(np.float64(0.3), end, rule)))


@pytest.mark.parametrize(
    ("xs", "sign"), [((1.0, -2.0), False), ((1.0, 2.0), True), ((2.0, -2.0), False), ((-2.0, 2.0), False)]
)
def test_the_extreme_falls_on_the_least_code(xs: tuple[float, ...], sign: bool) -> None:
    found = symmetric_scale(data_of(*xs), integer("int8"), FLOAT32, kind=SymmetricScale.EXTREME)
    assert found == Datum(is_negative=sign, magnitude=Fraction(1, 64))
    assert extreme_of(data_of(*xs)).value / found.value == -128


@pytest.mark.parametrize("kind", SymmetricScale)
def test_zeros_have_the_scale_one_and_specials_the_scale_nan(kind: SymmetricScale) -> None:
    fmt = integer("int4")
    assert symmetric_scale(data_of(0.0, -0.0), fmt, FLOAT32, kind=kind).value == 1
    assert symmetric_scale([], fmt, FLOAT32, kind=kind).value == 1
    for special in (math.inf, math.nan):
        assert symmetric_scale(data_of(1.0, special), fmt, FLOAT32, kind=kind).is_nan
        assert asymmetric_scale(data_of(1.0, special), fmt, FLOAT32)[0].is_nan


@pytest.mark.parametrize(("working", "least"), [(FLOAT32, 2.0**-126), (FLOAT64, 2.0**-1022)])
def test_scales_are_normal(working: FloatFormat, least: float) -> None:
    assert least_scale(working) == Fraction(least)
    assert symmetric_scale(data_of(2.0 * least), integer("int8"), working).value == Fraction(least)


@given(xs=SINGLES, fmt=st.sampled_from(INTEGERS), rule=st.sampled_from(RULES))
def test_asymmetric_scales_are_rounded_as_numpy_rounds(xs: list[float], fmt: IntFormat, rule: ScaleRule) -> None:
    lo, hi = np.float32(min(0.0, *xs)), np.float32(max(0.0, *xs))
    least = -(2 ** (fmt.bits - 1)) if fmt.is_signed else 0
    scale, zero_point = asymmetric_scale(data_of(*xs), fmt, FLOAT32, rule=rule)
    wanted = np.float32(1.0) if hi == lo else scaled(hi - lo, 2**fmt.bits - 1, rule)
    assert scale.value == Fraction(float(wanted))
    with np.errstate(under="ignore"):
        below = float(np.rint(-lo / wanted))
    assert zero_point == min(max(int(below) + least, least), least + 2**fmt.bits - 1)


def test_asymmetric_examples() -> None:
    assert asymmetric_scale(data_of(-1.0, 254.0), integer("uint8"), FLOAT32) == (datum_of(1.0), 1)
    assert asymmetric_scale(data_of(-1.0, 254.0), integer("int8"), FLOAT32) == (datum_of(1.0), -127)
    # All positive: zero is taken into the range, so that it has a code.
    assert asymmetric_scale(data_of(100.0, 255.0), integer("uint8"), FLOAT32) == (datum_of(1.0), 0)
    assert asymmetric_scale(data_of(-255.0), integer("uint8"), FLOAT32) == (datum_of(1.0), 255)
    # -lo / s is 2.5, which goes to the even 2.
    assert asymmetric_scale(data_of(-2.5, 252.5), integer("uint8"), FLOAT32) == (datum_of(1.0), 2)


def test_a_span_beyond_the_working_format_counts_as_its_largest_value() -> None:
    most = float(np.finfo(np.float32).max)
    scale, zero_point = asymmetric_scale(data_of(-most, most), integer("uint8"), FLOAT32)
    assert scale.value == Fraction(float(np.float32(most) / np.float32(255.0)))
    assert zero_point == 255
