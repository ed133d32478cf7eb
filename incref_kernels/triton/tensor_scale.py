"""The scale of a whole tensor: blocks are reduced to one pattern each, those again, until one is left."""

import torch
import triton
from torch import Tensor

from incref.formats import ScaleRule
from incref.numerics.patterns import float_format_of
from incref_kernels.triton.device.amax import finite_amax_kernel, tensor_scale_kernel
from incref_kernels.triton.device.facts import working_layout
from incref_kernels.triton.launch import launch, pattern_dtype
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["TILE", "tensor_scale"]

TILE = Tile(elements=8192, num_warps=8)


def tensor_scale(x: Tensor, limit: float) -> Tensor:
    """Compute `amax / limit` over the finite elements of `x`, rounded once, as `float_scale` does.

    Args:
        x: contiguous, float32 or narrower.
        limit: exact in float32.

    Returns:
        float32, shape ().
    """
    tile = choose(TILE)
    layout = working_layout(float_format_of(x.dtype))
    amax = x
    while amax.numel() > tile.elements or amax is x:
        count = triton.cdiv(amax.numel(), tile.elements)
        partial = torch.empty(max(count, 1), dtype=torch.int32, device=x.device)
        arguments = (amax, partial, amax.numel())
        launch(
            finite_amax_kernel,
            len(partial),
            *arguments,
            device=x.device,
            tile=tile,
            layout=layout,
            BLOCK=tile.elements,
        )
        amax = partial
    scale = torch.empty((), dtype=torch.float32, device=x.device)
    launch(
        tensor_scale_kernel,
        1,
        amax,
        scale.view(pattern_dtype(scale.dtype)),
        amax.numel(),
        device=x.device,
        tile=tile,
        layout=layout,
        limit=limit,
        rule=ScaleRule.DIVIDE,
        BLOCK=tile.elements,
    )
    return scale
