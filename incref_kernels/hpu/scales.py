"""Scales as operators take them."""

import torch
from torch import Tensor

from incref.formats import E8M0
from incref.numerics.granularity import Granularity
from incref.numerics.scaled import scale_values

__all__ = ["as_number", "float_scale", "is_power_of_two", "why_not_granularity"]


def float_scale(scale: Tensor) -> Tensor:
    """Give scales in float32, exactly; uint8 is read as codes of E8M0."""
    return scale_values(scale, torch.float32)


def as_number(scale: Tensor) -> float:
    """Give one scale as a number, exactly."""
    return float_scale(scale).item()


def why_not_granularity(shape: torch.Size, granularity: Granularity) -> str | None:
    """Say why scales of that granularity don't broadcast to a tensor of `shape`."""
    blocks = granularity.block_shape(shape)
    if all(block in (1, max(extent, 1)) for block, extent in zip(blocks, shape, strict=True)):
        return None
    return f"operators take one scale for all of a dimension or for each of its elements, not {granularity}"


def is_power_of_two(scale: Tensor) -> bool:
    """Whether all scales are powers of two, so that division and product with the reciprocal are the same."""
    if scale.dtype is torch.uint8:
        return E8M0.mantissa_bits == 0
    return bool((torch.frexp(scale).mantissa == 0.5).all())
