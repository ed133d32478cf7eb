"""Scales repeated, so that every element has its own."""

import torch
from torch import Tensor

from incref.numerics.granularity import Granularity


def spread(scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
    """Repeat scales so that every element has its own."""
    if scale.ndim == 0:
        return scale.expand(shape)
    for d, (extent, size) in enumerate(zip(granularity.block_shape(shape), shape, strict=True)):
        scale = scale.repeat_interleave(extent, d).narrow(d, 0, size)
    return scale
