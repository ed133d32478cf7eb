"""Scale segments against the shared exponent of the amax on both sides of each boundary."""

from itertools import pairwise

import pytest

from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, ScaleRule
from incref.oracle.scale_segments import scale_segments
from incref.oracle.scales import LEAST_EXPONENT, shared_exponent
from incref.oracle.segments import Segment
from incref.oracle.values import decode

ELEMENTS = [fmt.element for fmt in FORMATS.values() if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale]
RULES = [rule for rule in ScaleRule if rule.is_power_of_two]


def floating(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


@pytest.mark.parametrize("source", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fmt", ELEMENTS, ids=lambda fmt: fmt.name)
def test_both_sides_of_each_boundary(fmt: FloatFormat | IntFormat, rule: ScaleRule, source: str) -> None:
    patterns = floating(source)
    segments = scale_segments(patterns, fmt, rule)
    for before, segment in pairwise(segments[:-1]):
        for pattern, code in ((segment.first - 1, before.code), (segment.first, segment.code)):
            assert shared_exponent(decode(pattern, patterns).value, fmt, rule) - LEAST_EXPONENT == code, hex(pattern)


@pytest.mark.parametrize("rule", RULES)
def test_zero_starts_the_first_segment_and_inf_the_last(rule: ScaleRule) -> None:
    segments = scale_segments(floating("float32"), floating("float8_e4m3fn"), rule)
    assert segments[0] == Segment(first=0, code=0)
    assert segments[-1] == Segment(first=0x7F800000, code=255)


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        # Exponent 0 of E2M1, whose emax is 2 and whose greatest value is 6.
        (ScaleRule.FLOOR, 0x40800000),
        (ScaleRule.CEIL, 0x40000001),
        (ScaleRule.EVEN, 0x40600000),
        (ScaleRule.RCEIL, 0x40400001),
    ],
)
def test_where_the_scale_of_e2m1_becomes_one(rule: ScaleRule, first: int) -> None:
    segments = scale_segments(floating("float32"), floating("float4_e2m1fn"), rule)
    assert Segment(first=first, code=127) in segments


def test_other_rules_have_no_segments() -> None:
    with pytest.raises(ValueError, match="does not give powers of two"):
        scale_segments(floating("float32"), floating("float4_e2m1fn"), ScaleRule.DIVIDE)
