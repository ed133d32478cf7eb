"""How the tensors of a kernel lie beneath its tiles."""

from dataclasses import dataclass
from enum import Enum

import torch

__all__ = ["Kind", "Port", "TileShape"]


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
    """What one step of a kernel takes: `rows` by `lanes` elements of a tensor [matrices, length, inner].

    Attributes:
        rows: along `length`; 0 where the tile is a piece of a row, and `length` is 1.
        lanes: along `inner`, which lie side by side.
    """

    rows: int
    lanes: int

    def of(self, kind: Kind) -> tuple[int, ...]:
        """Shape of the part of a tensor that belongs to a tile."""
        if kind is Kind.ELEMENT:
            return (self.rows, self.lanes) if self.rows else (self.lanes,)
        if kind is Kind.COLUMN:
            return (self.lanes,)
        # A tensor without dimensions would give way to others in PyTorch's choice of a dtype.
        return (1, self.lanes) if kind is Kind.TILE and self.rows else (1,)
