"""`dequantize_float` in one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import require_scale
from incref.ops.quantize_float import get_float_format
from incref_kernels.cpu.launch import why_not_format, why_not_tensors
from incref_kernels.cpu.scaled import run_scaled, why_not_blocks
from incref_kernels.cpu.tiles.scaled import dequantize_scaled_tile

__all__ = ["KERNEL", "dequantize_float"]


def dequantize_float(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Run `incref.ops.dequantize_float` in a kernel."""
    source = get_float_format(fmt)
    float_format_of(dtype)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    require_scale("scale", scale, codes.shape, granularity)
    values = torch.empty(codes.shape, dtype=dtype)
    body = partial(dequantize_scaled_tile, fmt=source, dtype=dtype)
    run_scaled(body, codes, (scale,), values, granularity)
    return values


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
