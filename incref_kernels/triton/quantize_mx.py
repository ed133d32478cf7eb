"""`quantize_mx` in one pass over memory; NVFP4 without a given tensor scale takes one more to find it."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import (
    BlockRule,
    Format,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials
from incref.numerics.patterns import float_format_of
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_mx import get_block_format, require_axis
from incref_kernels.block_options import require_tensor_scale, scale_rule
from incref_kernels.triton.compute_scale import tensor_scale as find_tensor_scale
from incref_kernels.triton.device.blocks import encode_mx_blocks, encode_nvfp4_blocks
from incref_kernels.triton.device.facts import block_may_refuse, working_layout
from incref_kernels.triton.device.patterns import load_patterns
from incref_kernels.triton.hardware import converted
from incref_kernels.triton.launch import launch, lost_flag, raise_if_lost, why_not_tensors
from incref_kernels.triton.sizes import cdiv, next_power_of_2
from incref_kernels.triton.targets import target_of
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["KERNEL", "TILE", "TILE_ACROSS", "quantize_across_kernel", "quantize_along_kernel", "quantize_mx"]

TILE = Tile(elements=2048)
TILE_ACROSS = Tile(elements=4096)
TILE_ACROSS_OF_HOPPER = Tile(elements=2048, num_warps=1)
"""The same where threads have registers for twice as many elements."""


@triton.jit
def quantize_along_kernel(
    x_ptr: tl.tensor,
    random_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    length: tl.tensor,
    layout: tl.constexpr,
    fmt: tl.constexpr,
    to: tl.constexpr,
    rule: tl.constexpr,
    arithmetic: tl.constexpr,
    specials: tl.constexpr,
    BLOCKS: tl.constexpr,
) -> None:
    """Quantize BLOCKS blocks of a row of `length` elements, in which they lie one after another."""
    size: tl.constexpr = fmt.block_size
    programs = tl.cdiv(length, BLOCKS * size)
    row = (tl.program_id(0) // programs).to(tl.int64)
    first = (tl.program_id(0) % programs).to(tl.int64) * BLOCKS
    left = tl.minimum(length - first * size, BLOCKS * size).to(tl.int32)
    block = tl.arange(0, BLOCKS)
    element = block[:, None] * size + tl.arange(0, size)[None, :]
    mask = element < left
    start = row * length + first * size
    _quantize_tile(
        x_ptr + start + element,
        None if random_ptr is None else random_ptr + start + element,
        tensor_scale_ptr,
        codes_ptr + start + element,
        scale_ptr + row * tl.cdiv(length, size) + first + block,
        lost_ptr,
        mask,
        block * size < left,
        1,
        layout,
        fmt,
        to,
        rule,
        arithmetic,
        specials,
    )


@triton.jit
def quantize_across_kernel(
    x_ptr: tl.tensor,
    random_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    length: tl.tensor,
    inner: tl.tensor,
    layout: tl.constexpr,
    fmt: tl.constexpr,
    to: tl.constexpr,
    rule: tl.constexpr,
    arithmetic: tl.constexpr,
    specials: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Quantize blocks of COLUMNS columns of a matrix [length, inner]: elements of a block are a row apart."""
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
    _quantize_tile(
        x_ptr + start + element,
        None if random_ptr is None else random_ptr + start + element,
        tensor_scale_ptr,
        codes_ptr + start + element,
        scale_ptr + (matrix * blocks + block) * inner + column + columns,
        lost_ptr,
        mask,
        in_columns,
        0,
        layout,
        fmt,
        to,
        rule,
        arithmetic,
        specials,
    )


@triton.jit
def _quantize_tile(
    x: tl.tensor,
    random_at: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    codes_at: tl.tensor,
    scale_at: tl.tensor,
    lost_ptr: tl.tensor,
    mask: tl.tensor,
    scale_mask: tl.tensor,
    axis: tl.constexpr,
    layout: tl.constexpr,
    fmt: tl.constexpr,
    to: tl.constexpr,
    rule: tl.constexpr,
    arithmetic: tl.constexpr,
    specials: tl.constexpr,
) -> None:
    """Load a tile of elements, quantize its blocks along `axis`, store codes and scales."""
    signed = load_patterns(x, mask)
    random = None
    if random_at is not None:
        random = tl.load(random_at, mask=mask, other=0)
    if fmt.has_tensor_scale:
        whole = tl.load(tensor_scale_ptr)
        codes, scales, is_lost = encode_nvfp4_blocks(signed, random, whole, axis, layout, fmt, to, arithmetic, specials)
    else:
        codes, scales, is_lost = encode_mx_blocks(signed, random, axis, layout, fmt, to, rule, specials)
    tl.store(codes_at, codes.to(codes_at.dtype.element_ty), mask=mask)
    tl.store(scale_at, scales.to(scale_at.dtype.element_ty), mask=scale_mask)
    if lost_ptr is not None:
        tl.store(lost_ptr, 1, mask=tl.max(tl.max(is_lost.to(tl.int32), axis=1), axis=0) != 0)


def quantize_mx(
    x: Tensor,
    fmt: str | Format,
    *,
    axis: int = -1,
    rule: ScaleRule | None = None,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.RESTRICTED,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    tensor_scale: Tensor | None = None,
    random_bits: Tensor | None = None,
    tile: Tile | None = None,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Run `incref.ops.quantize_mx` in a kernel; a tensor that is not contiguous is copied first.

    Where an element can be left without a code and `nan` is ERROR, the call waits for the kernel to know.
    """
    target = converted(get_block_format(fmt), x.device)
    require_axis(x, axis)
    require_random_bits(x, rounding, random_bits)
    x = x.contiguous()
    rule = scale_rule(target, rule)
    tensor_scale = require_tensor_scale(x, target, tensor_scale, find_tensor_scale)
    specials = BlockSpecials(nan=nan_block, inf=inf_block)
    to = Encoding(fmt=target.element, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    axis = axis % x.ndim
    length, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    blocks = cdiv(length, target.block_size)
    codes = torch.empty(x.shape, dtype=code_dtype(target.element), device=x.device)
    scale = torch.empty((*x.shape[:axis], blocks, *x.shape[axis + 1 :]), dtype=torch.uint8, device=x.device)
    lost = lost_flag(x.device, may_refuse=block_may_refuse(to, specials))
    random = None if random_bits is None else random_bits.contiguous()
    constants = {
        "layout": working_layout(float_format_of(x.dtype)),
        "fmt": target,
        "to": to,
        "rule": rule,
        "arithmetic": arithmetic,
        "specials": specials,
    }
    tensors = (x, random, tensor_scale, codes, scale, lost)
    if inner == 1:
        tile = tile or choose(TILE, x)
        # Whole blocks follow each other across rows, as if there were one row.
        row = x.numel() if length % target.block_size == 0 else length
        count = _blocks_along(row, target.block_size, tile)
        programs = 0 if row == 0 else x.numel() // row * cdiv(row, count * target.block_size)
        launch(quantize_along_kernel, programs, *tensors, row, device=x.device, tile=tile, **constants, BLOCKS=count)
    else:
        tile = tile or choose(TILE_ACROSS_OF_HOPPER if target_of(x.device).is_hopper else TILE_ACROSS, x)
        columns = min(max(tile.elements // target.block_size, 1), next_power_of_2(max(inner, 1)))
        programs = 0 if x.numel() == 0 else x.numel() // (length * inner) * blocks * cdiv(inner, columns)
        launch(
            quantize_across_kernel,
            programs,
            *tensors,
            length,
            inner,
            device=x.device,
            tile=tile,
            **constants,
            COLUMNS=columns,
        )
    raise_if_lost(lost, target.element)
    return (codes, scale) if tensor_scale is None else (codes, scale, tensor_scale)


def _blocks_along(row: int, size: int, tile: Tile) -> int:
    """How many blocks of a row a program takes: no more than there are."""
    return min(max(tile.elements // size, 1), next_power_of_2(max(cdiv(row, size), 1)))


def why_not(
    x: Tensor,
    *_args: object,
    random_bits: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernels can't take."""
    return why_not_tensors({"x": x, "random_bits": random_bits, "tensor_scale": tensor_scale})


KERNEL = Kernel(fn=quantize_mx, why_not=why_not)
