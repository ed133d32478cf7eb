"""Rows of `x` sorted by the weight that they meet: products for mixtures of experts, in one launch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from incref.numerics.granularity import Granularity
from incref.ops.grouped import require_ends
from incref_kernels.triton.matmul import RowScale, row_scale
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.sizes import cdiv

__all__ = ["Groups", "groups_of", "scale_step", "stacked_scale", "why_not_groups"]

_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Which rows of `x` meet which weight.

    Attributes:
        ends: int32 [E]: one past the last row of each expert.
        count: E.
    """

    ends: Tensor
    count: int

    def usual_rows(self, rows: int) -> int:
        """How many rows an expert has if all have as many; what each has is known on the device only."""
        return cdiv(rows, self.count)

    def programs(self, tile: MatmulTile, rows: int, columns: int) -> int:
        """How many programs suffice wherever groups end: each may end within a tile."""
        tiles = min(rows, cdiv(rows, tile.rows) + self.count - 1)
        across = cdiv(columns, tile.columns)
        return tiles * across


def groups_of(ends: Tensor | None, x: Tensor, w: Tensor) -> Groups | None:
    """Check `ends`, and that `w` is one weight of each expert; None where there is one weight only."""
    if ends is None:
        return None
    require_ends(ends, x, w)
    return Groups(ends=ends.contiguous(), count=ends.shape[0])


def stacked_scale(name: str, scale: Tensor | None, shape: Sequence[int], granularity: Granularity) -> RowScale:
    """Give scales [E, ...] of weights of one shape as `row_scale` does those of the first, one after another."""
    if scale is None:
        return RowScale(scale=None)
    one = row_scale(name, scale[0], shape, granularity)
    return one if one.scale is None else replace(one, scale=scale.reshape(-1, one.blocks).contiguous())


def scale_step(scale: RowScale, groups: Groups | None, *, is_weight: bool) -> int | None:
    """How far the scales of a row, or of a weight, are from those of the one before."""
    if groups is None:
        return None
    if scale.scale is None or not is_weight:
        return scale.blocks if scale.extent else 0
    return scale.scale.numel() // groups.count


def why_not_groups(ends: Tensor | None, x_granularity: Granularity | None, x: Tensor) -> str | None:
    """Say which groups, or scales of their rows, a kernel can't take."""
    if ends is None:
        return None
    if ends.numel() > _MOST:
        return f"it takes at most {_MOST} groups of rows, got {ends.numel()}"
    if x_granularity is not None and x_granularity.block_shape(x.shape)[0] not in (1, x.shape[0]):
        return f"rows in groups have scales of their own or one of all, got {x_granularity}"
    return None
