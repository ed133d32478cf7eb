"""What products of matrices have in common: places of tiles, and the roundings that follow a sum."""

import triton
import triton.language as tl

from incref_kernels.triton.device.facts import W_THEN_X, X_THEN_W, is_multiple, layout_of_width
from incref_kernels.triton.device.scaled import scale_values
from incref_kernels.triton.device.store import round_to

__all__ = ["apply_scales", "load_factors", "load_scales", "multiply_scales", "store_tile", "tile_place"]


@triton.jit
def tile_place(
    program: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    GROUP_M: tl.constexpr,
) -> tl.tensor:
    """Rows and columns of the tile of a program; those of GROUP_M rows of tiles follow one another."""
    across = tl.cdiv(N, BLOCK_N)
    first = program // (GROUP_M * across) * GROUP_M
    height = tl.minimum(tl.cdiv(M, BLOCK_M) - first, GROUP_M)
    place = program % (GROUP_M * across)
    rows = (first + place % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = place // height * BLOCK_N + tl.arange(0, BLOCK_N)
    return rows, columns


@triton.jit
def load_factors(
    base: tl.tensor,
    k: tl.tensor,
    stride: tl.tensor,
    K: tl.tensor,
    AXIS: tl.constexpr,
    EVEN_K: tl.constexpr,
    REST: tl.tensor = 0,
) -> tl.tensor:
    """Load the elements at `k` along AXIS of rows that start at `base`; REST beyond K."""
    at = base + tl.expand_dims(k.to(tl.int64) * stride, 1 - AXIS)
    if EVEN_K:
        loaded = tl.load(at)
    else:
        loaded = tl.load(at, mask=tl.expand_dims(k < K, 1 - AXIS), other=REST)
    return loaded


@triton.jit
def load_scales(
    scale_ptr: tl.tensor, index: tl.tensor, extent: tl.tensor, block: tl.tensor, blocks: tl.tensor, EXTENT: tl.constexpr
) -> tl.tensor:
    """Load the scales of the rows of a tile in one block along K, or the one that they share, as float32.

    What has one block has it everywhere.

    Args:
        scale_ptr: [rows of scales, blocks]; None gives None.
        index: rows of the matrix, side by side from a multiple of how many; beyond its end the last one is taken.
        extent: how many rows the matrix has.
        block: along K.
        blocks: how many there are.
        EXTENT: rows that share a scale; 0 for all.
    """
    layout: tl.constexpr = layout_of_width(32)
    if scale_ptr is None:
        found = None
    else:
        if EXTENT == 0:
            row = tl.zeros([1], tl.int64)
        elif is_multiple(EXTENT, index.shape[0]):
            row = tl.zeros([1], tl.int64) + (tl.minimum(tl.min(index, 0), extent - 1) // EXTENT).to(tl.int64) * blocks
        else:
            row = (tl.minimum(index, extent - 1) // EXTENT).to(tl.int64) * blocks
        place = row + tl.minimum(block, blocks - 1)
        found = scale_values(tl.load(scale_ptr + place), layout)
    return found


@triton.jit
def multiply_scales(value: tl.tensor, x_scale: tl.tensor, w_scale: tl.tensor, order: tl.constexpr) -> tl.tensor:
    """Multiply a float32 tile by the scales of its rows and columns, with the roundings of `order`; None is 1."""
    if x_scale is None:
        if w_scale is not None:
            value = value * w_scale[None, :]
    elif w_scale is None:
        value = value * x_scale[:, None]
    elif order == X_THEN_W:
        value = value * x_scale[:, None] * w_scale[None, :]
    elif order == W_THEN_X:
        value = value * w_scale[None, :] * x_scale[:, None]
    else:
        value = value * (x_scale[:, None] * w_scale[None, :])
    return value


@triton.jit
def apply_scales(
    value: tl.tensor,
    x_scale_ptr: tl.tensor,
    w_scale_ptr: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    block: tl.tensor,
    x_blocks: tl.tensor,
    w_blocks: tl.tensor,
    order: tl.constexpr,
    X_EXTENT: tl.constexpr,
    W_EXTENT: tl.constexpr,
) -> tl.tensor:
    """Load the scales of a tile's rows and columns in a block along K, and multiply it by them."""
    x_scale = load_scales(x_scale_ptr, rows, M, block, x_blocks, X_EXTENT)
    w_scale = load_scales(w_scale_ptr, columns, N, block, w_blocks, W_EXTENT)
    return multiply_scales(value, x_scale, w_scale, order)


@triton.jit
def store_tile(
    value: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    out_row: tl.tensor,
    out_column: tl.tensor,
    layout: tl.constexpr,
    BIAS_AXIS: tl.constexpr,
) -> None:
    """Add the bias to a float32 tile, round it to `layout` and store its pattern; int32 is stored as it is.

    The bias lies along BIAS_AXIS: 1 for one a column.
    """
    single: tl.constexpr = layout_of_width(32)
    if value.dtype == tl.int32:
        patterns = value
    else:
        if bias_ptr is not None:
            if BIAS_AXIS == 1:
                bias = scale_values(tl.load(bias_ptr + columns, mask=columns < N, other=0), single)[None, :]
            else:
                bias = scale_values(tl.load(bias_ptr + rows, mask=rows < M, other=0), single)[:, None]
            value = value + bias
        patterns = round_to(value, layout).to(out_ptr.dtype.element_ty)
    at = out_ptr + rows.to(tl.int64)[:, None] * out_row + columns.to(tl.int64)[None, :] * out_column
    tl.store(at, patterns, mask=(rows < M)[:, None] & (columns < N)[None, :])
