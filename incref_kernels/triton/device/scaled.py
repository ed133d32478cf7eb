"""Scales as floats, and the kernels that divide by them or multiply with them."""

import triton
import triton.language as tl

from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.device.divide import divide, divide_by_scale, value_of
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import (
    DIVIDE,
    SATURATE_FINITE,
    divides_by_reciprocal,
    e8m0,
    integer_type,
    is_float,
    least_code,
)
from incref_kernels.triton.device.patterns import load_patterns, widen
from incref_kernels.triton.device.store import round_to

__all__ = ["dequantize_kernel", "quantize_kernel", "quantize_values", "scale_values"]


@triton.jit
def scale_values(scale: tl.tensor, layout: tl.constexpr) -> tl.tensor:
    """Give scales as values of `layout`, exactly; uint8 is read as codes of E8M0."""
    fmt: tl.constexpr = e8m0()
    wide: tl.constexpr = integer_type(layout)
    if scale.dtype == tl.uint8:
        value = value_of(decode_patterns(scale.to(wide), fmt, layout))
    else:
        value = value_of(widen(scale))
        if layout.bits == 64:
            value = value.to(tl.float64)
    return value


@triton.jit
def _scale_places(
    start: tl.tensor,
    lanes: tl.tensor,
    row: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    ROW_EXTENT: tl.constexpr,
    COLUMN_EXTENT: tl.constexpr,
    IS_UNIFORM: tl.constexpr,
) -> tl.tensor:
    """Where the scales are of the elements `start + lanes` of a row; one place if all have one scale.

    An extent of 0 is the whole dimension.
    """
    if ROW_EXTENT == 0:
        place = row // rows
    else:
        place = row // rows * tl.cdiv(rows, ROW_EXTENT) + row % rows // ROW_EXTENT
    if COLUMN_EXTENT != 0:
        first = start // COLUMN_EXTENT
        place = place * tl.cdiv(columns, COLUMN_EXTENT) + first
        if not IS_UNIFORM:
            place = place + (((start - first * COLUMN_EXTENT).to(tl.int32) + lanes) // COLUMN_EXTENT)
    return place


@triton.jit
def quantize_values(
    signed: tl.tensor,
    random: tl.tensor,
    factor: tl.tensor,
    zero: tl.tensor,
    layout: tl.constexpr,
    to: tl.constexpr,
    target: tl.constexpr,
    arithmetic: tl.constexpr,
    is_shared: tl.constexpr,
) -> tl.tensor:
    """Compute `encode(x / factor)`, and with `zero` the code of zero added, limited to `target`.

    `is_shared` says that many elements have a factor.

    Returns:
        The codes, and which elements are or become NaN.
    """
    if arithmetic != DIVIDE:
        factor = divide(factor * 0 + 1, factor)
    shared: tl.constexpr = is_shared and divides_by_reciprocal(to, layout)
    quotient = divide_by_scale(signed, factor, arithmetic == DIVIDE, layout, shared)
    if to.overflow == SATURATE_FINITE:
        # A quotient beyond the working format is still finite.
        is_lost = ((signed & (layout.sign_code - 1)) < layout.inf_code) & (
            (quotient & (layout.sign_code - 1)) == layout.inf_code
        )
        quotient = tl.where(is_lost, quotient - 1, quotient)
    codes, is_nan = encode_patterns(quotient, random, None, layout, to)
    if zero is not None:
        codes = codes + zero
        codes = tl.minimum(tl.maximum(codes, least_code(target)), target.fmt.max_code)
    return codes, is_nan


@triton.jit
def quantize_kernel(
    x_ptr: tl.tensor,
    random_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    layout: tl.constexpr,
    to: tl.constexpr,
    target: tl.constexpr,
    arithmetic: tl.constexpr,
    ROW_EXTENT: tl.constexpr,
    COLUMN_EXTENT: tl.constexpr,
    IS_UNIFORM: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Quantize BLOCK elements of a row: `encode(x / scale)`, and with `zero_ptr` the code of zero added, limited."""
    programs = tl.cdiv(columns, BLOCK)
    row = (tl.program_id(0) // programs).to(tl.int64)
    start = (tl.program_id(0) % programs).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    mask = lanes < tl.minimum(columns - start, BLOCK).to(tl.int32)
    place = _scale_places(start, lanes, row, rows, columns, ROW_EXTENT, COLUMN_EXTENT, IS_UNIFORM)
    at = row * columns + start + lanes
    signed = load_patterns(x_ptr + at, mask)
    if IS_UNIFORM:
        scale = tl.load(scale_ptr + place)
    else:
        scale = tl.load(scale_ptr + place, mask=mask, other=0)
    factor = scale_values(scale, layout)
    random = None
    if random_ptr is not None:
        random = tl.load(random_ptr + at, mask=mask, other=0)
    zero = None
    if zero_ptr is not None:
        if IS_UNIFORM:
            zero = tl.load(zero_ptr + place)
        else:
            zero = tl.load(zero_ptr + place, mask=mask, other=0)
    codes, is_nan = quantize_values(signed, random, factor, zero, layout, to, target, arithmetic, IS_UNIFORM)
    tl.store(codes_ptr + at, codes.to(codes_ptr.dtype.element_ty), mask=mask)
    if lost_ptr is not None:
        tl.store(lost_ptr, 1, mask=tl.max((is_nan & mask).to(tl.int32), axis=0) != 0)


@triton.jit
def dequantize_kernel(
    codes_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    patterns_ptr: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    fmt: tl.constexpr,
    working: tl.constexpr,
    layout: tl.constexpr,
    ROW_EXTENT: tl.constexpr,
    COLUMN_EXTENT: tl.constexpr,
    IS_UNIFORM: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Dequantize BLOCK elements of a row: `(code - zero_point) * scale` in `working`, then rounded to `layout`."""
    programs = tl.cdiv(columns, BLOCK)
    row = (tl.program_id(0) // programs).to(tl.int64)
    start = (tl.program_id(0) % programs).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    mask = lanes < tl.minimum(columns - start, BLOCK).to(tl.int32)
    place = _scale_places(start, lanes, row, rows, columns, ROW_EXTENT, COLUMN_EXTENT, IS_UNIFORM)
    at = row * columns + start + lanes
    codes = tl.load(codes_ptr + at, mask=mask, other=0)
    if IS_UNIFORM:
        factor = scale_values(tl.load(scale_ptr + place), working)
    else:
        factor = scale_values(tl.load(scale_ptr + place, mask=mask, other=0), working)
    wide: tl.constexpr = integer_type(working)
    if is_float(fmt):
        value = value_of(decode_patterns(codes.to(wide), fmt, working))
    else:
        shifted = codes.to(wide)
        if zero_ptr is not None:
            if IS_UNIFORM:
                shifted = shifted - tl.load(zero_ptr + place)
            else:
                shifted = shifted - tl.load(zero_ptr + place, mask=mask, other=0)
        value = shifted.to(factor.dtype)
    patterns = round_to(value * factor, layout)
    tl.store(patterns_ptr + at, patterns.to(patterns_ptr.dtype.element_ty), mask=mask)
