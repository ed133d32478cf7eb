"""`dequantize_affine` in one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import require_scale
from incref.ops.quantize_affine import get_int_format
from incref_kernels.cpu.launch import why_not_tensors
from incref_kernels.cpu.scaled import run_scaled, why_not_blocks
from incref_kernels.cpu.tiles.scaled import dequantize_scaled_tile
from incref_kernels.scales import require_zero_point

__all__ = ["KERNEL", "dequantize_affine"]


def dequantize_affine(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Run `incref.ops.dequantize_affine` in a kernel."""
    if codes.dtype not in (torch.uint8, torch.int8):
        raise TypeError(f"codes must be torch.uint8 or torch.int8, got {codes.dtype}")
    float_format_of(dtype)
    require_scale("scale", scale, codes.shape, granularity)
    require_zero_point(zero_point, codes, granularity)
    values = torch.empty(codes.shape, dtype=dtype)
    # Codes are the integers that they are, whatever their format.
    fmt = get_int_format("int8" if codes.dtype is torch.int8 else "uint8")
    body = partial(dequantize_scaled_tile, fmt=fmt, dtype=dtype)
    run_scaled(body, codes, (scale, zero_point), values, granularity)
    return values


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
