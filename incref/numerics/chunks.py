"""Walks over large tensors in pieces, so that temporaries stay in the cache and the working memory is bounded."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

from incref.numerics.checks import is_eager

__all__ = ["CHUNK_BYTES", "STRETCH_BYTES", "Slices", "chunk_slices"]

Slices = tuple[slice, ...]

CHUNK_BYTES = 3 << 19
"""Bytes of one temporary of a piece: a dozen of them stay in a cache, and none is of a size that is mapped anew."""

STRETCH_BYTES = 1 << 24
"""Bytes of a stretch of pieces whose blocks are looked through before any of its elements is encoded."""


def chunk_slices(
    shape: Sequence[int], unit: Sequence[int], itemsize: int, *, limit: int | None = None
) -> Iterator[Slices]:
    """Cover `shape` with slices whose temporaries take about `limit` bytes each.

    Args:
        shape: extents of the tensor.
        unit: per dimension, what the start of every slice is a multiple of.
        itemsize: bytes that a temporary takes for an element.
        limit: None for `CHUNK_BYTES`.

    Returns:
        The slices in row-major order; nothing for an empty tensor. One that covers all while `torch.compile` traces,
        since the compiler fuses the temporaries away.
    """
    if 0 in shape:
        return
    if not is_eager():
        yield tuple(slice(0, extent) for extent in shape)
        return
    # The least extents of all dimensions come first; what is left goes to the last dimension, then to the one before.
    units = [min(extent, least) for extent, least in zip(shape, unit, strict=True)]
    left = (limit or CHUNK_BYTES) // itemsize // math.prod(units)
    steps = []
    for extent, least in zip(reversed(shape), reversed(units), strict=True):
        many = max(1, min(left, -(-extent // least)))
        steps.append(min(extent, many * least))
        left //= many
    ranges = [range(0, extent, step) for extent, step in zip(shape, reversed(steps), strict=True)]
    for starts in product(*ranges):
        yield tuple(
            slice(start, min(start + step, extent))
            for start, step, extent in zip(starts, reversed(steps), shape, strict=True)
        )
