"""How the tensors of a kernel lie beneath its tiles."""

from dataclasses import dataclass
from enum import Enum

import torch

__all__ = ["Kind", "Port", "TileShape"]


# Elements of a row that one thread takes at least, where rows are longer.
_SEGMENT = 1 << 14
# Of rows that are copied: more than a few lines of the cache in one go, and the copies fit the first cache.
_PANEL = 128


class Kind(Enum):
    """Which part of a tensor belongs to a tile."""

    ELEMENT = "element"
    """One element for each of the tile."""
    TILE = "tile"
    """One for each tile, or for each of its columns where blocks lie across."""
    SCALE = "scale"
    """One for each block of a `Granularity`."""
    COLUMN = "column"
    """One for each column, the same for all rows of a block."""
    EVERY_ROW = "every row"
    """One for each column, the same for all rows of all matrices."""
    WHOLE = "whole"
    """One for all."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """A tensor that a kernel reads or writes.

    Attributes:
        kind: which part of it belongs to a tile.
        dtype: of its elements.
    """

    kind: Kind
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class TileShape:
    """What one step of a kernel takes of a tensor [matrices, length, inner].

    Attributes:
        rows: along `length`; 0 where the tile is a piece of a row, and `length` is 1.
        lanes: along `inner`, which lie side by side.
        pieces: of a row: so many times `lanes` elements, each with one element of what belongs to a tile. 1 for tiles
            with rows.
    """

    rows: int
    lanes: int
    pieces: int = 1

    @property
    def width(self) -> int:
        """Elements of a row that a step takes."""
        return self.lanes * self.pieces

    @property
    def segment(self) -> int:
        """Elements of a row that a unit takes at most."""
        return _PANEL if self.rows else max(_SEGMENT // self.width, 1) * self.width

    def is_beside(self, kind: Kind) -> bool:
        """Whether a unit copies its part of a tensor to memory beside, where rows are `segment` elements apart.

        Rows that lie a large power of two apart push each other out of the caches.
        """
        return self.rows > 0 and kind is Kind.ELEMENT

    def of(self, kind: Kind) -> tuple[int, ...]:
        """Shape of the part of a tensor that belongs to a tile."""
        lead = self.rows or self.pieces
        if kind is Kind.ELEMENT:
            return (lead, self.lanes) if lead > 1 or self.rows else (self.lanes,)
        if kind in (Kind.COLUMN, Kind.EVERY_ROW):
            return (self.lanes,)
        if kind is Kind.TILE and self.pieces > 1:
            return (self.pieces, 1)
        # A tensor without dimensions would give way to others in PyTorch's choice of a dtype.
        return (1, self.lanes) if kind is Kind.TILE and self.rows else (1,)
