"""`dequantize_mx` in one pass over memory."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref.numerics.patterns import float_format_of
from incref.ops.quantize_mx import get_block_format, require_axis
from incref_kernels.block_options import require_blocks
from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.device.divide import value_of
from incref_kernels.triton.device.facts import integer_type, working_layout
from incref_kernels.triton.device.store import round_to
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_tensors
from incref_kernels.triton.sizes import cdiv, next_power_of_2
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["KERNEL", "TILE", "dequantize_across_kernel", "dequantize_along_kernel", "dequantize_mx"]

TILE = Tile(elements=2048)


@triton.jit
def dequantize_along_kernel(
    codes_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    patterns_ptr: tl.tensor,
    length: tl.tensor,
    fmt: tl.constexpr,
    layout: tl.constexpr,
    BLOCKS: tl.constexpr,
) -> None:
    """Dequantize BLOCKS blocks of a row of `length` elements, in which they lie one after another."""
    size: tl.constexpr = fmt.block_size
    programs = tl.cdiv(length, BLOCKS * size)
    row = (tl.program_id(0) // programs).to(tl.int64)
    first = (tl.program_id(0) % programs).to(tl.int64) * BLOCKS
    left = tl.minimum(length - first * size, BLOCKS * size).to(tl.int32)
    block = tl.arange(0, BLOCKS)
    element = block[:, None] * size + tl.arange(0, size)[None, :]
    start = row * length + first * size
    scale_at = scale_ptr + row * tl.cdiv(length, size) + first + block
    scales = tl.load(scale_at, mask=block * size < left, other=0)[:, None]
    codes = tl.load(codes_ptr + start + element, mask=element < left, other=0)
    patterns = _dequantize_tile(codes, scales, tensor_scale_ptr, fmt, layout)
    tl.store(patterns_ptr + start + element, patterns.to(patterns_ptr.dtype.element_ty), mask=element < left)


@triton.jit
def dequantize_across_kernel(
    codes_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    patterns_ptr: tl.tensor,
    length: tl.tensor,
    inner: tl.tensor,
    fmt: tl.constexpr,
    layout: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Dequantize blocks of COLUMNS columns of a matrix [length, inner]: elements of a block are a row apart."""
    size: tl.constexpr = fmt.block_size
    tiles = tl.cdiv(inner, COLUMNS)
    blocks = tl.cdiv(length, size)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS
    matrix = (tl.program_id(0) // tiles // blocks).to(tl.int64)
    block = (tl.program_id(0) // tiles % blocks).to(tl.int64)
    lane = tl.arange(0, size)
    columns = tl.arange(0, COLUMNS)
    in_columns = columns < tl.minimum(inner - column, COLUMNS).to(tl.int32)
    mask = (lane < tl.minimum(length - block * size, size).to(tl.int32))[:, None] & in_columns[None, :]
    start = (matrix * length + block * size) * inner + column
    element = lane.to(tl.int64)[:, None] * inner + columns[None, :]
    scale_at = scale_ptr + (matrix * blocks + block) * inner + column + columns
    scales = tl.load(scale_at, mask=in_columns, other=0)[None, :]
    codes = tl.load(codes_ptr + start + element, mask=mask, other=0)
    patterns = _dequantize_tile(codes, scales, tensor_scale_ptr, fmt, layout)
    tl.store(patterns_ptr + start + element, patterns.to(patterns_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _dequantize_tile(
    codes: tl.tensor, scales: tl.tensor, tensor_scale_ptr: tl.tensor, fmt: tl.constexpr, layout: tl.constexpr
) -> tl.tensor:
    """Compute `decode(codes) * scale * tensor_scale`: an exact product, one rounded, and the rounding to `layout`."""
    working: tl.constexpr = working_layout(layout)
    wide: tl.constexpr = integer_type(working)
    element: tl.constexpr = fmt.element
    scale: tl.constexpr = fmt.scale
    value = value_of(decode_patterns(codes.to(wide), element, working))
    value = value * value_of(decode_patterns(scales.to(wide), scale, working))
    if tensor_scale_ptr is not None:
        value = value * tl.load(tensor_scale_ptr).to(value.dtype)
    return round_to(value, layout)


def dequantize_mx(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    axis: int = -1,
    tensor_scale: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    tile: Tile | None = None,
) -> Tensor:
    """Run `incref.ops.dequantize_mx` in a kernel; tensors that are not contiguous are copied first."""
    source = get_block_format(fmt)
    require_axis(codes, axis)
    axis = axis % codes.ndim
    require_blocks(codes, scale, source, axis, tensor_scale)
    values = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    length, inner, size = codes.shape[axis], math.prod(codes.shape[axis + 1 :]), source.block_size
    tensors = (codes.contiguous(), scale.contiguous(), tensor_scale, values.view(pattern_dtype(dtype)))
    constants = {"fmt": source, "layout": float_format_of(dtype)}
    tile = tile or choose(TILE, codes)
    if codes.numel() == 0:
        return values
    if inner == 1:
        # Whole blocks follow each other across rows, as if there were one row.
        row = codes.numel() if length % size == 0 else length
        count = min(max(tile.elements // size, 1), next_power_of_2(cdiv(row, size)))
        programs = codes.numel() // row * cdiv(row, count * size)
        launch(
            dequantize_along_kernel, programs, *tensors, row, device=codes.device, tile=tile, **constants, BLOCKS=count
        )
    else:
        columns = min(max(tile.elements // size, 1), next_power_of_2(inner))
        programs = codes.numel() // (length * inner) * cdiv(length, size) * cdiv(inner, columns)
        launch(
            dequantize_across_kernel,
            programs,
            *tensors,
            length,
            inner,
            device=codes.device,
            tile=tile,
            **constants,
            COLUMNS=columns,
        )
    return values


def why_not(
    codes: Tensor, scale: Tensor, *_args: object, tensor_scale: Tensor | None = None, **_options: object
) -> str | None:
    """Say which arguments the kernels can't take."""
    return why_not_tensors({"codes": codes, "scale": scale, "tensor_scale": tensor_scale})


KERNEL = Kernel(fn=dequantize_mx, why_not=why_not)
