"""The kernel that finds the scales of blocks and quantizes these: what it reads, it reads once."""

import triton
import triton.language as tl

from incref_kernels.triton.device.amax import ALL, NEGATIVE, POSITIVE, selected
from incref_kernels.triton.device.divide import value_of
from incref_kernels.triton.device.patterns import load_patterns
from incref_kernels.triton.device.scaled import quantize_values, scale_values
from incref_kernels.triton.device.scales import affine_scale, extreme_scale, float_scale, power_scale

__all__ = ["AFFINE", "EXTREME", "LARGEST", "POWER", "quantize_found_kernel"]

AFFINE = tl.constexpr("least and greatest value, with a code of zero")
EXTREME = tl.constexpr("the extreme on the least code")
LARGEST = tl.constexpr("largest magnitude")
POWER = tl.constexpr("largest magnitude, to a power of two")


@triton.jit
def quantize_found_kernel(
    x_ptr: tl.tensor,
    random_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    row_extent: tl.tensor,
    column_extent: tl.tensor,
    layout: tl.constexpr,
    to: tl.constexpr,
    target: tl.constexpr,
    kind: tl.constexpr,
    limit: tl.constexpr,
    rule: tl.constexpr,
    arithmetic: tl.constexpr,
    BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Quantize BLOCKS blocks that lie beside each other, of at most ROWS x COLUMNS elements, by scales of their own."""
    across = tl.cdiv(columns, column_extent)
    down = tl.cdiv(rows, row_extent)
    programs = tl.cdiv(across, BLOCKS)
    band = (tl.program_id(0) // programs).to(tl.int64)
    first = (tl.program_id(0) % programs).to(tl.int64) * BLOCKS
    top = band % down * row_extent
    height = tl.minimum(rows - top, row_extent).to(tl.int32)
    width = tl.minimum(columns - first * column_extent, BLOCKS * column_extent).to(tl.int32)
    lane = tl.arange(0, ROWS * COLUMNS)[None, :]
    row, column = lane // COLUMNS, lane % COLUMNS
    block = tl.arange(0, BLOCKS)
    element = block[:, None] * column_extent + column
    mask = (row < height) & (column < column_extent) & (element < width)
    at = (band // down * rows + top + row) * columns + first * column_extent + element
    signed = load_patterns(x_ptr + at, mask)
    random = None
    if random_ptr is not None:
        random = tl.load(random_ptr + at, mask=mask, other=0)
    zero = None
    # Triton 3.6 takes no attribute of a constant as an argument.
    fmt: tl.constexpr = target.fmt
    if kind == AFFINE:
        above = tl.max(selected(signed, layout, POSITIVE), axis=1)
        below = tl.max(selected(signed, layout, NEGATIVE), axis=1)
        scale, zero = affine_scale(above, below, layout, fmt, rule)
    elif kind == EXTREME:
        above = tl.max(selected(signed, layout, POSITIVE), axis=1)
        below = tl.max(selected(signed, layout, NEGATIVE), axis=1)
        scale = extreme_scale(above, below, layout, limit, rule)
    elif kind == POWER:
        scale = power_scale(tl.max(selected(signed, layout, ALL), axis=1), layout, fmt, rule).to(tl.uint8)
    else:
        tl.static_assert(kind == LARGEST)
        scale = float_scale(tl.max(selected(signed, layout, ALL), axis=1), layout, limit, rule)
    factor = scale_values(scale, layout) if kind == POWER else value_of(scale)
    shift = None
    if zero is not None:
        shift = zero[:, None]
    # For blocks of many rows the registers that a reciprocal takes cost more than it saves.
    shared: tl.constexpr = ROWS == 1
    codes, is_nan = quantize_values(signed, random, factor[:, None], shift, layout, to, target, arithmetic, shared)
    tl.store(codes_ptr + at, codes.to(codes_ptr.dtype.element_ty), mask=mask)
    place = band * across + first + block
    is_there = block * column_extent < width
    tl.store(scale_ptr + place, scale.to(scale_ptr.dtype.element_ty), mask=is_there)
    if zero is not None:
        tl.store(zero_ptr + place, zero.to(tl.int32), mask=is_there)
    if lost_ptr is not None:
        tl.store(lost_ptr, 1, mask=tl.max(tl.max((is_nan & mask).to(tl.int32), axis=1), axis=0) != 0)
