"""Starts the kernels that divide by scales of blocks, or multiply with them."""

import torch
from torch import Tensor

from incref.formats import ElementFormat, ScaleArithmetic
from incref.numerics.encode import Encoding
from incref.numerics.granularity import Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import product_dtype
from incref_kernels.blocks import Blocks, blocks_of
from incref_kernels.triton.device.facts import may_refuse, working_layout
from incref_kernels.triton.device.scaled import dequantize_kernel, quantize_kernel
from incref_kernels.triton.launch import launch, lost_flag, pattern_dtype, raise_if_lost
from incref_kernels.triton.sizes import cdiv, next_power_of_2
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["TILE", "dequantize_scaled", "quantize_scaled"]

TILE = Tile(elements=2048)


def quantize_scaled(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    codes: Tensor,
    granularity: Granularity,
    to: Encoding,
    target: Encoding,
    *,
    arithmetic: ScaleArithmetic,
    random_bits: Tensor | None,
    tile: Tile | None,
) -> None:
    """Write `encode(x / scale)` to `codes`; with a zero point that of `to`, shifted and limited to `target`."""
    blocks, tile = _blocks(granularity, x), tile or choose(TILE, x)
    lost = lost_flag(x.device, may_refuse=may_refuse(to))
    random = None if random_bits is None else random_bits.contiguous()
    zero = None if zero_point is None else zero_point.contiguous()
    launch(
        quantize_kernel,
        _programs(blocks, tile),
        x.contiguous(),
        random,
        scale.contiguous(),
        zero,
        codes,
        lost,
        blocks.rows,
        blocks.columns,
        device=x.device,
        tile=tile,
        layout=working_layout(float_format_of(x.dtype)),
        to=to,
        target=target,
        arithmetic=arithmetic,
        **_extents(blocks, tile),
    )
    raise_if_lost(lost, target.fmt)


def dequantize_scaled(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    granularity: Granularity,
    fmt: ElementFormat,
    dtype: torch.dtype,
    *,
    tile: Tile | None,
) -> Tensor:
    """Compute `(decode(codes) - zero_point) * scale`, rounded to float32 or float64, then to `dtype`."""
    blocks, tile = _blocks(granularity, codes), tile or choose(TILE, codes)
    values = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    launch(
        dequantize_kernel,
        _programs(blocks, tile),
        codes.contiguous(),
        scale.contiguous(),
        None if zero_point is None else zero_point.contiguous(),
        values.view(pattern_dtype(dtype)),
        blocks.rows,
        blocks.columns,
        device=codes.device,
        tile=tile,
        fmt=fmt,
        working=float_format_of(product_dtype(scale.dtype, dtype)),
        layout=float_format_of(dtype),
        **_extents(blocks, tile),
    )
    return values


def _blocks(granularity: Granularity, x: Tensor) -> Blocks:
    blocks = blocks_of(granularity, x.shape)
    assert blocks is not None
    return blocks


def _programs(blocks: Blocks, tile: Tile) -> int:
    return blocks.outer * blocks.rows * cdiv(blocks.columns, _lanes(blocks, tile))


def _lanes(blocks: Blocks, tile: Tile) -> int:
    """How many elements of a row a program takes: no more than there are."""
    return min(tile.elements, next_power_of_2(max(blocks.columns, 1)))


def _extents(blocks: Blocks, tile: Tile) -> dict[str, object]:
    """Constants of a kernel that say which scale an element has."""
    # 0 for a block that spans the dimension, so that a kernel serves tensors of every size.
    column_extent = 0 if blocks.column_extent >= blocks.columns else blocks.column_extent
    return {
        "ROW_EXTENT": 0 if blocks.row_extent >= blocks.rows else blocks.row_extent,
        "COLUMN_EXTENT": column_extent,
        "IS_UNIFORM": column_extent % _lanes(blocks, tile) == 0,
        "BLOCK": _lanes(blocks, tile),
    }
