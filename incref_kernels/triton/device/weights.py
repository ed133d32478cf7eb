"""Tiles of quantized weights as floats: codes, packed or one a byte, and the scales of their groups."""

import triton
import triton.language as tl

from incref_kernels.triton.device.decode import decode_patterns, decode_values
from incref_kernels.triton.device.divide import value_of
from incref_kernels.triton.device.facts import integer_offset, is_float, layout_of_width, power_of_two
from incref_kernels.triton.device.scaled import scale_values

__all__ = ["decode_codes", "factors", "load_codes", "load_groups", "spread"]


@triton.jit
def load_codes(
    base: tl.tensor,
    start: tl.tensor,
    stride: tl.tensor,
    K: tl.tensor,
    bits: tl.constexpr,
    PACKED: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    """Load codes as int32 [BLOCK_N, BLOCK_K], with bits above their width that mean nothing; 0 beyond K.

    Args:
        base: where rows of words start, [BLOCK_N, 1].
        start: the first code, a multiple of PACKED.
        stride: between words.
        K: how many codes a row has.
        bits: of a code.
        PACKED: codes in a word, the first one lowest.
        EVEN_K: whether BLOCK_K divides K.
        BLOCK_K: codes.
    """
    word = start // PACKED + tl.arange(0, BLOCK_K // PACKED)
    at = base + (word.to(tl.int64) * stride)[None, :]
    if EVEN_K:
        words = tl.load(at)
    else:
        words = tl.load(at, mask=(word * PACKED < K)[None, :], other=0)
    codes = words.to(tl.int32)
    # Each step puts the upper half of what is left in a word beside it; a reshape would leave registers for memory.
    if PACKED > 16:
        codes = tl.interleave(codes, codes >> (16 * bits))
    if PACKED > 8:
        codes = tl.interleave(codes, codes >> (8 * bits))
    if PACKED > 4:
        codes = tl.interleave(codes, codes >> (4 * bits))
    if PACKED > 2:
        codes = tl.interleave(codes, codes >> (2 * bits))
    if PACKED > 1:
        codes = tl.interleave(codes, codes >> bits)
    return codes


@triton.jit
def decode_codes(codes: tl.tensor, table_ptr: tl.tensor, fmt: tl.constexpr) -> tl.tensor:
    """Decode codes to float32."""
    single: tl.constexpr = layout_of_width(32)
    if table_ptr is not None:
        value = tl.load(table_ptr + (codes & (fmt.num_codes - 1)))
    elif is_float(fmt):
        value = decode_values(codes, fmt)
    else:
        # An integer below 2**23 is what stands in the fraction of 2**23 + it.
        offset: tl.constexpr = integer_offset(fmt)
        raw = (codes & (fmt.num_codes - 1)) ^ offset
        one: tl.constexpr = single.bias + single.mantissa_bits << single.mantissa_bits
        value = value_of(raw | one) - (1 << single.mantissa_bits | offset)
        if fmt.fraction_bits != 0:
            value = value * power_of_two(-fmt.fraction_bits)
    return value


@triton.jit
def load_groups(
    ptr: tl.tensor,
    group_ptr: tl.tensor,
    columns: tl.tensor,
    start: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    blocks: tl.tensor,
    EXTENT: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_K: tl.constexpr,
    MAY_END: tl.constexpr,
) -> tl.tensor:
    """Load what groups have, [BLOCK_N or 1, groups or BLOCK_K]; with MAY_END 0 for a tile that starts beyond K.

    Args:
        ptr: [rows of scales, blocks].
        group_ptr: the group of each column of the weight; None for consecutive ones.
        columns: rows of the weight.
        start: first column of the tile.
        N: how many rows the weight has.
        K: how many columns.
        blocks: how many groups.
        EXTENT: rows that share a scale; 0 for all.
        GROUP: columns that do; 0 for all.
        BLOCK_K: columns of the tile.
        MAY_END: whether the tile may start beyond K.
    """
    if EXTENT == 0:
        row = tl.zeros([1, 1], tl.int64)
    else:
        row = (tl.minimum(columns, N - 1) // EXTENT).to(tl.int64)[:, None] * blocks
    k = start + tl.arange(0, BLOCK_K)
    is_inside = start < K if MAY_END else None
    rest = 0 if MAY_END else None
    if group_ptr is not None:
        group = tl.load(group_ptr + k, mask=k < K, other=0)[None, :]
        found = tl.load(ptr + row + group, mask=is_inside, other=rest)
    elif GROUP == 0:
        found = tl.load(ptr + row, mask=is_inside, other=rest)
    elif GROUP % BLOCK_K == 0:
        found = tl.load(ptr + row + start // GROUP, mask=is_inside, other=rest)
    elif BLOCK_K % GROUP == 0:
        block = start // GROUP + tl.arange(0, BLOCK_K // GROUP)
        found = tl.load(ptr + row + tl.minimum(block, blocks - 1)[None, :], mask=is_inside, other=rest)
    else:
        found = tl.load(ptr + row + tl.minimum(k // GROUP, blocks - 1)[None, :], mask=is_inside, other=rest)
    return found


@triton.jit
def spread(found: tl.tensor, BLOCK_K: tl.constexpr) -> tl.tensor:
    """Give every column of a tile what its group has, unless one group has them all."""
    rows: tl.constexpr = found.shape[0]
    count: tl.constexpr = found.shape[1]
    if count != 1 and count != BLOCK_K:  # noqa: PLR1714  # Triton knows no sets
        found = tl.reshape(tl.broadcast_to(found[:, :, None], (rows, count, BLOCK_K // count)), (rows, BLOCK_K))
    return found


@triton.jit
def factors(scale: tl.tensor, scale_fmt: tl.constexpr) -> tl.tensor:
    """Give scales as float32; `scale_fmt` is that of codes, None for floats and E8M0."""
    single: tl.constexpr = layout_of_width(32)
    if scale_fmt is None:
        factor = scale_values(scale, single)
    else:
        factor = value_of(decode_patterns(scale.to(tl.int32), scale_fmt, single))
    return factor
