"""MX blocks: worked examples, the special blocks under every rule, and what a good block has to satisfy."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.errors import NanError
from incref.formats import FORMATS, BlockFormat, BlockRule, NanRule, Overflow, Rounding, ScaleRule
from incref.oracle.blocks import amax_of, decode_block, fate_of_block, filler_code, quantize_block
from incref.oracle.datum import datum_of, number
from incref.oracle.elements import ElementRules
from incref.oracle.encode import RandomBits
from incref.oracle.ladder import greatest

MX = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale]
RULES = [rule for rule in ScaleRule if rule.is_power_of_two]
ROUNDED_TO_ZERO = ElementRules(nan=NanRule.ZERO)


def block_format(name: str) -> BlockFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    return fmt


@pytest.mark.parametrize(
    ("rule", "scale", "codes"),
    [
        # amax is 7: 7 / 1 overflows E2M1 and saturates to 6; 7 / 2 = 3.5 is a tie between 3 (5) and 4 (6).
        (ScaleRule.FLOOR, 127, [0x7, 0x9, 0x2, 0x8]),
        (ScaleRule.CEIL, 128, [0x6, 0x8, 0x1, 0x8]),
        (ScaleRule.EVEN, 128, [0x6, 0x8, 0x1, 0x8]),
        (ScaleRule.RCEIL, 128, [0x6, 0x8, 0x1, 0x8]),
    ],
)
def test_a_block_of_e2m1(rule: ScaleRule, scale: int, codes: list[int]) -> None:
    xs = [datum_of(x) for x in (7.0, -0.5, 1.0, -0.0)]
    assert quantize_block(xs, block_format("mxfp4"), rule=rule) == (codes, scale)


def test_floor_of_the_float_just_below_a_power_of_two() -> None:
    """Taking the exponent from a rounded logarithm gives 127 here."""
    below_one = math.ldexp((1 << 24) - 1, -24)
    codes, scale = quantize_block([datum_of(below_one)], block_format("mxfp8_e4m3"))
    assert (codes, scale) == ([0x7E], 127 - 1 - 8)


def test_elements_are_rounded_once() -> None:
    """1 + 2**-4 is a tie for E4M3 that the last bit of a float64 decides."""
    x = 1 + 2.0**-4 + 2.0**-52
    codes, scale = quantize_block([datum_of(x), datum_of(1 + 2.0**-4)], block_format("mxfp8_e4m3"))
    assert (codes, scale) == ([0x79, 0x78], 119)


def test_a_subnormal_block_keeps_its_relative_precision_until_the_scale_ends() -> None:
    fmt = block_format("mxfp4")
    assert quantize_block([number(Fraction(2) ** -124)], fmt) == ([0x6], 1)
    assert quantize_block([number(Fraction(2) ** -125)], fmt) == ([0x6], 0)
    assert quantize_block([number(Fraction(2) ** -127)], fmt) == ([0x2], 0)
    assert quantize_block([number(Fraction(2) ** -149)], fmt) == ([0x0], 0)


@pytest.mark.parametrize("fmt", MX, ids=lambda fmt: fmt.name)
def test_a_zero_block_has_the_least_scale_and_keeps_its_signs(fmt: BlockFormat) -> None:
    codes, scale = quantize_block([datum_of(0.0), datum_of(-0.0)], fmt)
    negative_zero = 0 if fmt.name == "mxint8" else 1 << (fmt.element.bits - 1)
    assert (codes, scale) == ([0, negative_zero], 0)


@pytest.mark.parametrize("special", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "filler"), [("mxfp8_e4m3", 0x7F), ("mxfp8_e5m2", 0x7E), ("mxfp6_e2m3", 0), ("mxfp4", 0), ("mxint8", 0)]
)
def test_one_special_element_makes_the_block_nan(name: str, filler: int, special: float) -> None:
    fmt = block_format(name)
    assert quantize_block([datum_of(1.0), datum_of(special)], fmt) == ([filler, filler], 255)
    assert filler_code(fmt.element) == filler
    assert all(datum.is_nan for datum in decode_block([filler, filler], 255, fmt))


def test_a_special_element_alone() -> None:
    xs = [datum_of(x) for x in (1.0, math.inf, -math.inf)]
    alone = quantize_block(xs, block_format("mxfp8_e5m2"), inf_block=BlockRule.ELEMENT)
    assert alone == ([0x78, 0x7B, 0xFB], 112)
    kept = ElementRules(overflow=Overflow.SATURATE_FINITE)
    codes, _ = quantize_block(xs, block_format("mxfp8_e5m2"), inf_block=BlockRule.ELEMENT, elements=kept)
    assert codes == [0x78, 0x7C, 0xFC]


def test_a_saturated_block_has_the_greatest_scale() -> None:
    xs = [datum_of(x) for x in (2.0**127, -math.inf)]
    assert quantize_block(xs, block_format("mxfp4"), inf_block=BlockRule.SATURATE) == ([0x2, 0xF], 254)


def test_a_lone_nan_follows_the_rules_of_the_element() -> None:
    xs = [datum_of(x) for x in (1.0, math.nan)]
    with pytest.raises(NanError):
        quantize_block(xs, block_format("mxfp4"), nan_block=BlockRule.ELEMENT)
    found = quantize_block(xs, block_format("mxfp4"), nan_block=BlockRule.ELEMENT, elements=ROUNDED_TO_ZERO)
    assert found == ([0x6, 0x0], 125)


@pytest.mark.parametrize(
    ("nan_block", "inf_block", "fate"),
    [
        (BlockRule.ELEMENT, BlockRule.NAN_BLOCK, BlockRule.NAN_BLOCK),
        (BlockRule.NAN_BLOCK, BlockRule.SATURATE, BlockRule.NAN_BLOCK),
        (BlockRule.ELEMENT, BlockRule.SATURATE, BlockRule.SATURATE),
        (BlockRule.ELEMENT, BlockRule.ELEMENT, BlockRule.ELEMENT),
    ],
)
def test_the_stronger_rule_counts(nan_block: BlockRule, inf_block: BlockRule, fate: BlockRule) -> None:
    xs = [datum_of(math.nan), datum_of(math.inf)]
    assert fate_of_block(xs, nan_block, inf_block) is fate


def test_a_block_of_specials_alone_has_the_least_scale() -> None:
    xs = [datum_of(math.inf)]
    assert amax_of(xs) == 0
    assert quantize_block(xs, block_format("mxfp4"), inf_block=BlockRule.ELEMENT) == ([0x7], 0)


@given(
    fmt=st.sampled_from(MX),
    rule=st.sampled_from(RULES),
    xs=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
)
def test_no_element_is_further_off_than_half_a_step(fmt: BlockFormat, rule: ScaleRule, xs: list[float]) -> None:
    """Of those in range; the step of a float format is at most its greatest one, and at most 2**-mantissa_bits of x."""
    data = [datum_of(x) for x in xs]
    codes, scale_code = quantize_block(data, fmt, rule=rule)
    scale = Fraction(2) ** (scale_code - 127)
    bits = getattr(fmt.element, "mantissa_bits", 0)
    for x, found in zip(data, decode_block(codes, scale_code, fmt), strict=True):
        assert found.is_negative == x.is_negative or found.magnitude == 0
        if x.magnitude <= scale * greatest(fmt.element):
            step = Fraction(fmt.element.smallest_positive) * scale
            if bits:
                step = max(step, x.magnitude / (1 << bits))
            assert abs(found.value - x.value) <= step / 2
        else:
            assert found.magnitude == scale * greatest(fmt.element)


def test_random_bits_reach_their_elements() -> None:
    xs = [datum_of(6.0), datum_of(1.25), datum_of(1.25)]
    bits = [RandomBits(value=value, width=8) for value in (0, 127, 128)]
    codes, scale = quantize_block(
        xs, block_format("mxfp4"), elements=ElementRules(rounding=Rounding.STOCHASTIC), random_bits=bits
    )
    assert (codes, scale) == ([0x7, 0x2, 0x3], 127)
