"""A tensor of expected codes from the oracle's segments, and the comparison with it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from incref.oracle.segments import Segment

__all__ = ["CHUNK", "Mismatch", "compare", "expected_codes", "float32_of"]

CHUNK = 1 << 20
"""Patterns that are compared at once."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A pattern and its two codes."""

    pattern: int
    got: int
    want: int


def float32_of(first: int, count: int) -> Tensor:
    """The `count` float32 values whose patterns start at `first`."""
    return (_counting(count) + _as_signed(first, 32)).view(torch.float32)


@cache
def _counting(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.int32)


def expected_codes(segments: Sequence[Segment], first: int, count: int, dtype: torch.dtype) -> Tensor:
    """Codes of the patterns `first` to `first + count - 1`.

    Args:
        segments: in ascending order, the first of them at or before `first`.
        first: a pattern, as unsigned.
        count: how many.
        dtype: of the codes; one that does not fit is kept as its low bits.
    """
    bits = torch.iinfo(dtype).bits
    is_signed = torch.iinfo(dtype).min < 0
    codes = torch.empty(count, dtype=dtype)
    at = bisect_right(segments, first, key=lambda segment: segment.first) - 1
    start = 0
    while start < count:
        code = segments[at].code
        if code is None:
            raise ValueError(f"pattern {first + start:#x} has no code; choose a NanRule that gives one")
        stop = min(segments[at + 1].first - first, count) if at + 1 < len(segments) else count
        codes[start:stop] = _as_signed(code, bits) if is_signed else code
        start, at = stop, at + 1
    return codes


def compare(got: Tensor, want: Tensor, first: int) -> tuple[int, Mismatch | None]:
    """Count the mismatches of a chunk that starts at pattern `first`, and describe the first of them."""
    if torch.equal(got, want):
        return 0, None
    places = (got != want).nonzero().flatten()
    at = int(places[0])
    return len(places), Mismatch(pattern=first + at, got=int(got[at]), want=int(want[at]))


def _as_signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >= 1 << (bits - 1) else value
