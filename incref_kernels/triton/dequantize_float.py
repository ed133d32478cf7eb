"""`dequantize_float` in one pass over memory."""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled import require_scale
from incref.ops.quantize_float import get_float_format
from incref_kernels.triton.compute_scale import why_not_blocks
from incref_kernels.triton.launch import why_not_format, why_not_tensors
from incref_kernels.triton.scaled import dequantize_scaled
from incref_kernels.triton.tiles import Tile

__all__ = ["KERNEL", "dequantize_float"]


def dequantize_float(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
    tile: Tile | None = None,
) -> Tensor:
    """Run `incref.ops.dequantize_float` in a kernel; tensors that are not contiguous are copied first."""
    source = get_float_format(fmt)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    require_scale("scale", scale, codes.shape, granularity)
    return dequantize_scaled(codes, scale, None, granularity, source, dtype, tile=tile)


def why_not(
    codes: Tensor, scale: Tensor, fmt: str | Format, *, granularity: Granularity = PER_TENSOR, **_options: object
) -> str | None:
    """Say which arguments the kernel can't take."""
    return (
        why_not_tensors({"codes": codes, "scale": scale})
        or why_not_format(get_float_format(fmt))
        or why_not_blocks(granularity, codes)
    )


KERNEL = Kernel(fn=dequantize_float, why_not=why_not)
