import pytest
import torch

from conformance.expect import Mismatch, compare, expected_codes, float32_of
from incref.oracle.segments import Segment

SEGMENTS = (Segment(first=0, code=3), Segment(first=5, code=0xFE), Segment(first=6, code=1))


def test_patterns_are_consecutive_on_both_sides_of_the_sign_bit() -> None:
    assert float32_of(0x3F800000, 2).tolist() == [1.0, 1.0 + 2.0**-23]
    assert float32_of(0x80000000, 3).view(torch.int32).tolist() == [-(1 << 31), -(1 << 31) + 1, -(1 << 31) + 2]


@pytest.mark.parametrize(
    ("first", "count", "codes"),
    [(0, 7, [3, 3, 3, 3, 3, 254, 1]), (4, 2, [3, 254]), (5, 1, [254]), (100, 2, [1, 1])],
)
def test_expected_codes_follow_the_segments(first: int, count: int, codes: list[int]) -> None:
    assert expected_codes(SEGMENTS, first, count, torch.uint8).tolist() == codes


def test_codes_are_kept_as_the_low_bits_of_a_signed_dtype() -> None:
    segments = (Segment(first=0, code=0xFFFF), Segment(first=1, code=-2), Segment(first=2, code=0x7FFF))
    assert expected_codes(segments, 0, 3, torch.int16).tolist() == [-1, -2, 0x7FFF]


def test_a_refused_pattern_is_not_compared() -> None:
    with pytest.raises(ValueError, match="pattern 0x2 has no code"):
        expected_codes((Segment(first=0, code=0), Segment(first=2, code=None)), 0, 4, torch.uint8)


def test_mismatches_are_counted_and_the_first_is_named() -> None:
    want = expected_codes(SEGMENTS, 0, 7, torch.uint8)
    assert compare(want.clone(), want, 0) == (0, None)
    got = want.clone()
    got[4:6] = 9
    assert compare(got, want, 100) == (2, Mismatch(pattern=104, got=9, want=3))
