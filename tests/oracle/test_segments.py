"""Segments against encoding itself, which finds neighbours in another way."""

from bisect import bisect_right
from itertools import pairwise

import pytest

from incref.errors import NanError
from incref.formats import FORMATS, BlockFormat, ElementFormat, FloatFormat, IntRange, NanRule, Overflow, Rounding
from incref.oracle.encode import encode
from incref.oracle.segments import Segment, encode_segments, merge
from incref.oracle.values import decode

NARROW = [fmt for fmt in FORMATS.values() if not isinstance(fmt, BlockFormat) and fmt.bits <= 8]
DETERMINISTIC = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]


def floating(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


def code_in(segments: tuple[Segment, ...], pattern: int) -> int | None:
    return segments[bisect_right(segments, pattern, key=lambda segment: segment.first) - 1].code


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("fmt", NARROW, ids=lambda fmt: fmt.name)
def test_patterns_on_both_sides_of_each_boundary(fmt: ElementFormat, rounding: Rounding) -> None:
    """One overflow mode each, so that all three are met with every rounding."""
    source = floating("float32")
    overflow = list(Overflow)[(len(fmt.name) + len(rounding.value)) % 3]
    for is_negative in (False, True):
        segments = encode_segments(
            source, fmt, is_negative=is_negative, rounding=rounding, overflow=overflow, nan=NanRule.ZERO
        )
        for before, segment in pairwise(segments):
            for pattern, wanted in ((segment.first - 1, before.code), (segment.first, segment.code)):
                x = decode(pattern, source)
                assert encode(x, fmt, rounding=rounding, overflow=overflow, nan=NanRule.ZERO) == wanted, hex(pattern)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn", "int4", "nf4", "binary8p1ue"])
def test_all_patterns_of_a_narrow_source(name: str, overflow: Overflow) -> None:
    source, fmt = floating("float8_e5m2"), FORMATS[name]
    assert not isinstance(fmt, BlockFormat)
    for is_negative in (False, True):
        segments = encode_segments(source, fmt, is_negative=is_negative, overflow=overflow, nan=NanRule.MAX)
        for pattern in range(128 * is_negative, 128 * is_negative + 128):
            wanted = encode(decode(pattern, source), fmt, overflow=overflow, nan=NanRule.MAX)
            assert code_in(segments, pattern) == wanted


def test_known_boundaries_of_e4m3() -> None:
    segments = encode_segments(floating("float32"), floating("float8_e4m3fn"), is_negative=False)
    assert segments[:2] == (Segment(first=0, code=0), Segment(first=0x3A800001, code=1))
    # The step from 416 to 448 is at 432, which is a tie and goes to the even code 0x7E; 464 and all above saturate.
    assert segments[-2:] == (Segment(first=0x43D80000, code=0x7E), Segment(first=0x7F800001, code=0x7F))
    nonsaturating = encode_segments(
        floating("float32"), floating("float8_e4m3fn"), is_negative=False, overflow=Overflow.NONSATURATE
    )
    assert nonsaturating[-1] == Segment(first=0x43E80001, code=0x7F)


def test_a_refused_value_has_no_code() -> None:
    segments = encode_segments(floating("float32"), floating("float4_e2m1fn"), is_negative=True)
    assert segments[-1] == Segment(first=0xFF800001, code=None)
    with pytest.raises(NanError):
        encode(decode(0xFF800001, floating("float32")), floating("float4_e2m1fn"))


def test_every_code_has_a_segment() -> None:
    segments = encode_segments(
        floating("float32"), floating("float8_e5m2"), is_negative=False, overflow=Overflow.NONSATURATE
    )
    assert [segment.code for segment in segments] == [*range(0x7D), 0x7E]


@pytest.mark.parametrize(("int_range", "least"), [(IntRange.FULL, -8), (IntRange.RESTRICTED, -7)])
def test_integers_end_where_their_range_does(int_range: IntRange, least: int) -> None:
    fmt = FORMATS["int4"]
    assert not isinstance(fmt, BlockFormat)
    segments = encode_segments(floating("float32"), fmt, is_negative=True, int_range=int_range, nan=NanRule.MAX)
    assert [segment.code for segment in segments] == [*range(0, least - 1, -1)]


def test_stochastic_rounding_has_no_segments() -> None:
    with pytest.raises(ValueError, match="depends on more than the pattern"):
        encode_segments(floating("float32"), floating("float8_e5m2"), is_negative=False, rounding=Rounding.STOCHASTIC)


def test_only_ieee_formats_are_sources() -> None:
    with pytest.raises(ValueError, match="patterns of an IEEE format are listed, got float8_e4m3fn"):
        encode_segments(floating("float8_e4m3fn"), floating("float4_e2m1fn"), is_negative=False)


def test_merge_drops_empty_segments_and_joins_equal_ones() -> None:
    runs = [Segment(first=0, code=0), Segment(first=4, code=1), Segment(first=4, code=2), Segment(first=9, code=2)]
    assert merge(runs) == (Segment(first=0, code=0), Segment(first=4, code=2))
