"""Blocks of a `Granularity` in the one form that kernels take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from incref.numerics.granularity import Granularity

__all__ = ["Blocks", "blocks_of"]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A contiguous tensor seen as [outer, rows, columns], whose blocks are [1, row_extent, column_extent]."""

    outer: int
    rows: int
    columns: int
    row_extent: int
    column_extent: int

    @property
    def row_blocks(self) -> int:
        """How many blocks there are over each other."""
        return -(-self.rows // self.row_extent)

    @property
    def column_blocks(self) -> int:
        """How many blocks there are beside each other."""
        return -(-self.columns // self.column_extent)


def blocks_of(granularity: Granularity, shape: Sequence[int]) -> Blocks | None:
    """Find that form; None if more than two neighbouring dimensions are cut."""
    return _blocks_of(granularity, tuple(shape))


@lru_cache(maxsize=4096)
def _blocks_of(granularity: Granularity, shape: tuple[int, ...]) -> Blocks | None:
    merged: list[tuple[int, int]] = []
    for size, extent in zip(shape, granularity.block_shape(shape), strict=True):
        if size == 1:
            continue
        if merged and _join(merged[-1], (size, extent)):
            before = merged.pop()
            merged.append((before[0] * size, before[1] * extent))
        else:
            merged.append((size, extent))
    while len(merged) > 1 and _join(merged[-2], merged[-1]):
        inner, before = merged.pop(), merged.pop()
        merged.append((before[0] * inner[0], before[1] * inner[1]))
    merged = [(1, 1)] * (3 - len(merged)) + merged
    (outer, lead), (rows, row_extent), (columns, column_extent) = merged[-3:]
    if len(merged) > 3 or lead != 1:
        return None
    return Blocks(
        outer=outer, rows=rows, columns=columns, row_extent=max(row_extent, 1), column_extent=max(column_extent, 1)
    )


def _join(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether two neighbouring dimensions are one: the inner one is whole in every block, or both are cut to single."""
    return after[0] == after[1] or before[1] == after[1] == 1
