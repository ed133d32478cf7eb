"""`dequantize_mx` in one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref.numerics.patterns import float_format_of
from incref.ops.quantize_mx import get_block_format, require_axis
from incref_kernels.block_options import require_blocks
from incref_kernels.cpu.blocks import run_blocks
from incref_kernels.cpu.jit.ports import Kind
from incref_kernels.cpu.launch import why_not_tensors
from incref_kernels.cpu.tiles.blocks import dequantize_tile

__all__ = ["KERNEL", "dequantize_mx"]


def dequantize_mx(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    axis: int = -1,
    tensor_scale: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Run `incref.ops.dequantize_mx` in a kernel; tensors that are not contiguous are copied piece by piece."""
    source = get_block_format(fmt)
    require_axis(codes, axis)
    float_format_of(dtype)
    axis = axis % codes.ndim
    require_blocks(codes, scale, source, axis, tensor_scale)
    values = torch.empty(codes.shape, dtype=dtype)
    inputs = [(Kind.ELEMENT, codes), (Kind.TILE, scale)]
    if tensor_scale is not None:
        inputs.append((Kind.WHOLE, tensor_scale.contiguous()))
    body = partial(dequantize_tile, fmt=source, dtype=dtype)
    run_blocks(body, source.block_size, axis, inputs, [(Kind.ELEMENT, values)])
    return values


def why_not(
    codes: Tensor, scale: Tensor, fmt: str | Format, *, tensor_scale: Tensor | None = None, **_options: object
) -> str | None:
    """Say which arguments the kernels can't take."""
    del fmt
    return why_not_tensors({"codes": codes, "scale": scale, "tensor_scale": tensor_scale})


KERNEL = Kernel(fn=dequantize_mx, why_not=why_not)
