"""Blocks that a tile holds: their scales are found and used in one pass over memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from incref.numerics.granularity import Granularity
from incref.numerics.scaled import compute_dtype
from incref_kernels.blocks import blocks_of
from incref_kernels.cpu.blocks import run_blocks
from incref_kernels.cpu.jit.ports import Kind
from incref_kernels.cpu.launch import are_contiguous
from incref_kernels.cpu.tiles.found import Finding

__all__ = ["empty_scales", "fits_tile", "run_found"]

# Powers of two, so that a step takes whole blocks; above the largest one a tile no longer fits the registers.
_SIZES = (16, 32, 64, 128, 256)


def fits_tile(granularity: Granularity, x: Tensor, *others: Tensor | None) -> bool:
    """Whether tensors are contiguous and every block is a piece of a row that a tile holds."""
    blocks = blocks_of(granularity, x.shape)
    if blocks is None or x.numel() == 0 or not are_contiguous([x, *others]):
        return False
    return blocks.row_extent == 1 and blocks.column_extent in _SIZES


def empty_scales(x: Tensor, granularity: Granularity, find: Finding) -> tuple[Tensor, ...]:
    """Memory for the scales, and for zero points if there are any."""
    shape = granularity.scale_shape(x.shape)
    scale = torch.empty(shape, dtype=torch.uint8 if find.rule.is_power_of_two else compute_dtype(x.dtype))
    return (scale,) if find.symmetric else (scale, torch.empty(shape, dtype=torch.int32))


def run_found(
    body: Callable[..., Tensor | tuple[Tensor, ...]],
    granularity: Granularity,
    inputs: Sequence[Tensor | None],
    elements: Tensor | None = None,
    scales: Sequence[Tensor] = (),
) -> bool:
    """Apply `body` to every block; see `fits_tile`.

    Args:
        body: takes the inputs, gives the elements and the scales, and is told `dim`.
        granularity: which elements form a block.
        inputs: the elements, and random bits or None.
        elements: what is written of each, or None.
        scales: what is written for each block.

    Returns:
        Whether an element was lost.
    """
    x, *_ = inputs
    assert x is not None
    blocks = blocks_of(granularity, x.shape)
    assert blocks is not None
    given = [(Kind.ELEMENT, tensor.view(-1, blocks.columns)) for tensor in inputs if tensor is not None]
    written = [] if elements is None else [(Kind.ELEMENT, elements)]
    return run_blocks(body, blocks.column_extent, 1, given, [*written, *((Kind.TILE, scale) for scale in scales)])
