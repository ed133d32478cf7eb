"""Starts the kernel that finds scales and quantizes in one pass, for blocks that a program holds."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from incref.formats import IntFormat, ScaleArithmetic, ScaleRule, SymmetricScale
from incref.numerics.encode import Encoding
from incref.numerics.granularity import Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import compute_dtype
from incref.numerics.scales import grid_limit
from incref_kernels.blocks import Blocks, blocks_of
from incref_kernels.triton.device.facts import may_refuse, working_layout
from incref_kernels.triton.device.found_scales import AFFINE, EXTREME, LARGEST, POWER, quantize_found_kernel
from incref_kernels.triton.launch import launch, lost_flag, pattern_dtype, raise_if_lost
from incref_kernels.triton.sizes import cdiv, next_power_of_2
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["MOST", "TILE", "Find", "quantize_found", "takes_one_pass"]

TILE = Tile(elements=2048)
MOST = 1 << 14
"""The most elements of a block that a program holds: a block of 128 x 128."""
_MOST_WARPS = 16
_ELEMENTS_OF_WARP = 512


@dataclass(frozen=True, kw_only=True)
class Find:
    """How a scale is found; see `incref.ops.compute_scale`."""

    rule: ScaleRule = ScaleRule.DIVIDE
    symmetric: bool = True
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX

    def kind(self, target: Encoding) -> object:
        """What the kernel is told."""
        if not self.symmetric:
            return AFFINE
        if self.rule.is_power_of_two:
            return POWER
        is_extreme = self.symmetric_scale is SymmetricScale.EXTREME and isinstance(target.fmt, IntFormat)
        return EXTREME if is_extreme else LARGEST


def takes_one_pass(x: Tensor, granularity: Granularity) -> bool:
    """Whether every block of `x` fits a program."""
    blocks = blocks_of(granularity, x.shape)
    return blocks is not None and x.numel() > 0 and _lanes(blocks) <= MOST


def quantize_found(
    x: Tensor,
    codes: Tensor,
    granularity: Granularity,
    to: Encoding,
    target: Encoding,
    *,
    find: Find,
    arithmetic: ScaleArithmetic,
    random_bits: Tensor | None,
    tile: Tile | None,
) -> tuple[Tensor, Tensor | None]:
    """Write the codes of `x` by scales that are found on the way; give these, and zero points if there are."""
    found = blocks_of(granularity, x.shape)
    assert found is not None
    blocks, shape = _flat(found), granularity.scale_shape(x.shape)
    kind = find.kind(target)
    dtype = torch.uint8 if kind is POWER else compute_dtype(x.dtype)
    scale = torch.empty(shape, dtype=dtype, device=x.device)
    zero = torch.empty(shape, dtype=torch.int32, device=x.device) if kind is AFFINE else None
    lost = lost_flag(x.device, may_refuse=may_refuse(to))
    rows, columns = (next_power_of_2(each) for each in (blocks.row_extent, blocks.column_extent))
    tile = tile or choose(TILE, x)
    count = min(max(tile.elements // (rows * columns), 1), next_power_of_2(blocks.column_blocks))
    launch(
        quantize_found_kernel,
        blocks.outer * blocks.row_blocks * cdiv(blocks.column_blocks, count),
        x.contiguous(),
        None if random_bits is None else random_bits.contiguous(),
        codes,
        scale if kind is POWER else scale.view(pattern_dtype(dtype)),
        zero,
        lost,
        blocks.rows,
        blocks.columns,
        blocks.row_extent,
        blocks.column_extent,
        device=x.device,
        tile=_with_warps(tile, count * rows * columns),
        layout=working_layout(float_format_of(x.dtype)),
        to=to,
        target=target,
        kind=kind,
        limit=grid_limit(target.fmt, find.symmetric_scale) if find.symmetric else None,
        rule=find.rule,
        arithmetic=arithmetic,
        BLOCKS=count,
        ROWS=rows,
        COLUMNS=columns,
    )
    raise_if_lost(lost, target.fmt)
    return scale, zero


def _lanes(blocks: Blocks) -> int:
    """How many elements a block takes in a program."""
    return next_power_of_2(blocks.row_extent) * next_power_of_2(blocks.column_extent)


def _flat(blocks: Blocks) -> Blocks:
    """The same blocks; where whole ones follow each other across rows, as if there were one row."""
    if blocks.row_extent > 1 or blocks.columns % blocks.column_extent:
        return blocks
    return replace(blocks, outer=1, rows=1, columns=blocks.outer * blocks.rows * blocks.columns)


def _with_warps(tile: Tile, elements: int) -> Tile:
    """More warps for blocks that are larger than a tile."""
    warps = min(max(elements // _ELEMENTS_OF_WARP, 1), _MOST_WARPS)
    return replace(tile, num_warps=max(tile.num_warps, warps))
