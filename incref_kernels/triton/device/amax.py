"""Largest magnitudes: each program writes those of some blocks, and the results are reduced again."""

import triton
import triton.language as tl

from incref_kernels.triton.device.patterns import load_patterns

__all__ = ["ALL", "FINITE", "NEGATIVE", "POSITIVE", "amax_across_kernel", "amax_along_kernel", "selected"]

ALL = tl.constexpr("all")
FINITE = tl.constexpr("finite")
NEGATIVE = tl.constexpr("negative")
POSITIVE = tl.constexpr("positive")


@triton.jit
def amax_along_kernel(
    x_ptr: tl.tensor,
    amax_ptr: tl.tensor,
    length: tl.tensor,
    layout: tl.constexpr,
    select: tl.constexpr,
    EXTENT: tl.constexpr,
    BLOCKS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Reduce BLOCKS blocks of EXTENT elements of a row of `length`; LANES is the next power of two of EXTENT.

    `x_ptr` is to floats, or to patterns of an earlier reduction.
    """
    programs = tl.cdiv(length, BLOCKS * EXTENT)
    row = (tl.program_id(0) // programs).to(tl.int64)
    first = (tl.program_id(0) % programs).to(tl.int64) * BLOCKS
    left = tl.minimum(length - first * EXTENT, BLOCKS * EXTENT).to(tl.int32)
    block = tl.arange(0, BLOCKS)
    lane = tl.arange(0, LANES)[None, :]
    element = block[:, None] * EXTENT + lane
    mask = (element < left) & (lane < EXTENT)
    signed = load_patterns(x_ptr + row * length + first * EXTENT + element, mask)
    amax = tl.max(selected(signed, layout, select), axis=1)
    tl.store(amax_ptr + row * tl.cdiv(length, EXTENT) + first + block, amax, mask=block * EXTENT < left)


@triton.jit
def amax_across_kernel(
    x_ptr: tl.tensor,
    amax_ptr: tl.tensor,
    length: tl.tensor,
    inner: tl.tensor,
    layout: tl.constexpr,
    select: tl.constexpr,
    EXTENT: tl.constexpr,
    LANES: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Reduce blocks of COLUMNS columns of a matrix [length, inner]: EXTENT elements of a block are a row apart."""
    tiles = tl.cdiv(inner, COLUMNS)
    blocks = tl.cdiv(length, EXTENT)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS
    matrix = (tl.program_id(0) // tiles // blocks).to(tl.int64)
    block = (tl.program_id(0) // tiles % blocks).to(tl.int64)
    lane = tl.arange(0, LANES)
    columns = tl.arange(0, COLUMNS)
    in_columns = columns < tl.minimum(inner - column, COLUMNS).to(tl.int32)
    mask = (lane < tl.minimum(length - block * EXTENT, EXTENT).to(tl.int32))[:, None] & in_columns[None, :]
    start = (matrix * length + block * EXTENT) * inner + column
    signed = load_patterns(x_ptr + start + lane.to(tl.int64)[:, None] * inner + columns[None, :], mask)
    amax = tl.max(selected(signed, layout, select), axis=0)
    tl.store(amax_ptr + (matrix * blocks + block) * inner + column + columns, amax, mask=in_columns)


@triton.jit
def selected(signed: tl.tensor, layout: tl.constexpr, select: tl.constexpr) -> tl.tensor:
    """Magnitudes that count; 0 elsewhere."""
    magnitude = signed & (layout.sign_code - 1)
    if select == FINITE:
        magnitude = tl.where(magnitude < layout.inf_code, magnitude, 0)
    elif select == NEGATIVE:
        magnitude = tl.where(signed < 0, magnitude, 0)
    elif select == POSITIVE:
        magnitude = tl.where(signed < 0, 0, magnitude)
    return magnitude
