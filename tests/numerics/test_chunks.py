"""Pieces cover a tensor once, start where a unit does, and are no larger than they have to be."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.numerics.chunks import CHUNK_BYTES, chunk_slices

EXTENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 50)), max_size=4)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(extents=EXTENTS, limit=st.sampled_from([4, 64, 1024, 1 << 20]))
def test_every_element_is_in_one_piece(extents: list[tuple[int, int]], limit: int) -> None:
    shape, unit = tuple(size for size, _ in extents), tuple(least for _, least in extents)
    seen = torch.zeros(shape, dtype=torch.int32)
    for part in chunk_slices(shape, unit, 4, limit=limit):
        seen[part] += 1
        assert all(s.start % least == 0 for s, least in zip(part, unit, strict=True))
        least_piece = math.prod(min(size, least) for size, least in extents)
        assert math.prod(s.stop - s.start for s in part) <= max(limit // 4, least_piece)
    assert (seen == 1).all()


def test_wide_units_do_not_make_wide_pieces() -> None:
    pieces = list(chunk_slices((256, 1 << 18), (128, 128), 4))
    assert max(math.prod(s.stop - s.start for s in part) for part in pieces) * 4 <= CHUNK_BYTES
