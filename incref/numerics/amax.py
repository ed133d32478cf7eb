"""Largest magnitudes and extremes of blocks, on bit patterns, so that no mode of the processor changes them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from incref.numerics.blocks import over_blocks, to_blocks
from incref.numerics.chunks import Slices, chunk_slices
from incref.numerics.patterns import Patterns, patterns_of

__all__ = [
    "block_parts",
    "finite_magnitudes",
    "magnitudes",
    "negative_magnitudes",
    "positive_magnitudes",
    "reduce_amax",
]


def block_parts(
    shape: tuple[int, ...], block: tuple[int, ...], itemsize: int, *, limit: int | None = None
) -> Iterator[tuple[Slices, Slices, tuple[int, ...]]]:
    """Cover a tensor in pieces that are whole blocks or lie inside one.

    Args:
        shape: extents of the tensor.
        block: extent of a block along every dimension.
        itemsize: bytes that a temporary takes for an element.
        limit: bytes of a temporary of a piece, as for `chunk_slices`.

    Returns:
        For every piece: its slices, those of its scales, and the extents of a block inside the piece.
    """
    unit = tuple(1 if extent >= size else extent for extent, size in zip(block, shape, strict=True))
    for part in chunk_slices(shape, unit, itemsize, limit=limit):
        pairs = list(zip(part, block, strict=True))
        scales = tuple(slice(s.start // extent, -(-s.stop // extent)) for s, extent in pairs)
        yield part, scales, tuple(min(extent, s.stop - s.start) for s, extent in pairs)


def magnitudes(source: Patterns) -> Tensor:
    """Every magnitude."""
    return source.magnitude


def positive_magnitudes(source: Patterns) -> Tensor:
    """The magnitudes of elements with sign bit 0; 0 elsewhere."""
    return torch.where(source.signed < 0, 0, source.magnitude)


def negative_magnitudes(source: Patterns) -> Tensor:
    """The magnitudes of elements with sign bit 1; 0 elsewhere."""
    return torch.where(source.signed < 0, source.magnitude, 0)


def finite_magnitudes(source: Patterns) -> Tensor:
    """The finite magnitudes; 0 elsewhere."""
    return torch.where(source.magnitude < source.inf, source.magnitude, 0)


def reduce_amax(x: Tensor, block: tuple[int, ...], select: Callable[[Patterns], Tensor] = magnitudes) -> Tensor:
    """Largest of the selected magnitude patterns in every block; above the pattern of Inf if a NaN is among them.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
        block: extent of a block along every dimension.
        select: which magnitudes count.

    Returns:
        Patterns [ceil(d0 / b0), ceil(d1 / b1), ...], int64 for float64, else int32; 0 for a block without elements.
    """
    shape = tuple(-(-size // extent) for size, extent in zip(x.shape, block, strict=True))
    dtype = torch.int64 if x.dtype is torch.float64 else torch.int32
    amax = torch.zeros(shape, dtype=dtype, device=x.device)
    for part, scales, inner in block_parts(x.shape, block, max(x.itemsize, 4)):
        piece = to_blocks(select(patterns_of(x[part])), inner)
        if x.ndim:
            piece = piece.amax(over_blocks(x.ndim))
        amax[scales] = torch.maximum(amax[scales], piece)
    return amax
