"""`dequantize_affine` in one pass over memory."""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import FORMATS, IntFormat
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled import require_scale
from incref_kernels.scales import require_zero_point
from incref_kernels.triton.compute_scale import why_not_blocks
from incref_kernels.triton.launch import why_not_tensors
from incref_kernels.triton.scaled import dequantize_scaled
from incref_kernels.triton.tiles import Tile

__all__ = ["KERNEL", "dequantize_affine"]


def dequantize_affine(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
    tile: Tile | None = None,
) -> Tensor:
    """Run `incref.ops.dequantize_affine` in a kernel; tensors that are not contiguous are copied first."""
    if codes.dtype not in (torch.uint8, torch.int8):
        raise TypeError(f"codes must be torch.uint8 or torch.int8, got {codes.dtype}")
    require_scale("scale", scale, codes.shape, granularity)
    require_zero_point(zero_point, codes, granularity)
    fmt = FORMATS["uint8" if codes.dtype is torch.uint8 else "int8"]
    assert isinstance(fmt, IntFormat)
    return dequantize_scaled(codes, scale, zero_point, granularity, fmt, dtype, tile=tile)


def why_not(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"codes": codes, "scale": scale, "zero_point": zero_point}
    return why_not_tensors(tensors) or why_not_blocks(granularity, codes)


KERNEL = Kernel(fn=dequantize_affine, why_not=why_not)
