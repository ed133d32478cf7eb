"""Views of a tensor as blocks that share a scale."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["from_blocks", "over_blocks", "per_element", "to_blocks"]


def to_blocks(x: Tensor, block: Sequence[int]) -> Tensor:
    """Split every dimension of `x` in two: [d0, d1, ...] to [ceil(d0 / b0), b0, ceil(d1 / b1), b1, ...].

    A ragged last block is filled up with zeros. `x` itself is viewed where nothing has to be filled.
    """
    fill = [-size % extent for size, extent in zip(x.shape, block, strict=True)]
    if any(fill):
        pads = [pad for end in reversed(fill) for pad in (0, end)]
        x = torch.nn.functional.pad(x, pads)
    for d in reversed(range(len(block))):
        x = x.unflatten(d, (x.shape[d] // block[d], block[d]))
    return x


def from_blocks(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo `to_blocks` for a tensor that had `shape`."""
    for d in range(len(shape)):
        x = x.flatten(d, d + 1)
    for d, size in enumerate(shape):
        x = x.narrow(d, 0, size)
    return x


def over_blocks(ndim: int) -> tuple[int, ...]:
    """Dimensions of the result of `to_blocks` that run inside a block."""
    return tuple(range(1, 2 * ndim, 2))


def per_element(scale: Tensor, ndim: int) -> Tensor:
    """Shape the scales of [ceil(d0 / b0), ...] so that they broadcast against the result of `to_blocks`."""
    for d in range(ndim):
        scale = scale.unsqueeze(2 * d + 1)
    return scale
