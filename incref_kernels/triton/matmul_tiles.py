"""How much of a matrix product one program of a kernel takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from incref_kernels.triton.sizes import cdiv
from incref_kernels.triton.targets import target_of

__all__ = ["MatmulTile", "fit_blocks", "fit_tile", "tile_for"]

_FEW_ROWS = 16
_K_OF_FEW_ROWS = 64
_K_OF_BLOCKS = 64
_SUMS = 128 * 64
_ROWS_ON_CPU = 32
_K_ON_CPU = 64


@dataclass(frozen=True, kw_only=True)
class MatmulTile:
    """A choice of sizes.

    Attributes:
        block_m: rows of the result, a power of two.
        block_n: its columns, likewise.
        block_k: products that are added at a time, likewise.
        num_warps: that share a tile.
        num_stages: tiles of the factors that are in flight.
        group_m: rows of tiles whose programs follow one another, so that they share the factors in the cache.
        is_transposed: whether `w @ x.T` is computed, and stored transposed: rows and columns are those of that product.
            Few rows of `x` then take few columns of a matrix unit whose tiles have many rows.
    """

    block_m: int
    block_n: int
    block_k: int
    num_warps: int = 4
    num_stages: int = 3
    group_m: int = 8
    is_transposed: bool = False

    @property
    def rows(self) -> int:
        """Rows of `x` that a tile takes."""
        return self.block_n if self.is_transposed else self.block_m

    @property
    def columns(self) -> int:
        """Rows of `w` that a tile takes."""
        return self.block_m if self.is_transposed else self.block_n

    def programs(self, rows: int, columns: int) -> int:
        """How many programs a result takes."""
        return cdiv(rows, self.rows) * cdiv(columns, self.columns)

    def constants(self) -> dict[str, int]:
        """Give what a kernel and its launch are told."""
        return {
            "BLOCK_M": self.block_m,
            "BLOCK_N": self.block_n,
            "BLOCK_K": self.block_k,
            "GROUP_M": self.group_m,
            "num_stages": self.num_stages,
        }


def tile_for(table: Sequence[MatmulTile], rows: int) -> MatmulTile:
    """Take the first tile of a table, in ascending order of their rows, that holds all rows; the last if none does."""
    return next((tile for tile in table if rows <= tile.rows), table[-1])


def fit_tile(tile: MatmulTile, device: torch.device, *, x_bytes: float, w_bytes: float) -> MatmulTile:
    """Reduce the stages to what the memory of a multiprocessor holds; on RDNA, fit the tile to its registers.

    For the CPU it gets small: every element of a lane, and every stage, is code of its own, and most kernels take
    longer to be compiled than to run.

    Args:
        tile: as it was tuned.
        device: that it runs on.
        x_bytes: what an element of `x` takes there.
        w_bytes: what an element of `w` takes.
    """
    target = target_of(device)
    if target.kind == "cpu":
        return _with_little_code(tile)
    room = target.shared
    if room is None:
        return tile
    if target.has_few_registers:
        tile = _with_few_registers(tile)
    stages = int(room / (tile.block_k * (tile.rows * x_bytes + tile.columns * w_bytes)))
    return replace(tile, num_stages=max(1, min(tile.num_stages, stages)))


def fit_blocks(tile: MatmulTile, device: torch.device) -> MatmulTile:
    """Fit a tile of a weight whose scales are those of blocks, which stay in registers beside its codes."""
    return replace(tile, block_k=min(tile.block_k, _K_OF_BLOCKS)) if target_of(device).spills_scales else tile


def _with_little_code(tile: MatmulTile) -> MatmulTile:
    return replace(
        tile,
        block_m=min(tile.block_m, _ROWS_ON_CPU),
        block_n=min(tile.block_n, _ROWS_ON_CPU),
        block_k=min(tile.block_k, _K_ON_CPU),
        num_stages=1,
    )


def _with_few_registers(tile: MatmulTile) -> MatmulTile:
    """Give each wave less to hold: fewer codes of a weight that meets few rows, else fewer sums."""
    if tile.rows <= _FEW_ROWS:
        return replace(tile, block_k=min(tile.block_k, _K_OF_FEW_ROWS))
    return replace(tile, num_warps=8, block_n=min(tile.block_n, _SUMS // tile.block_m))
