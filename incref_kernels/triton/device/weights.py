"""Tiles of quantized weights as floats: codes, packed or one a byte, and the scales of their groups."""

import triton
import triton.language as tl

from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.device.divide import value_of
from incref_kernels.triton.device.facts import integer_offset, is_float, layout_of_width, power_of_two
from incref_kernels.triton.device.scaled import scale_values

__all__ = ["dequantize_tile", "load_codes"]


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
def _decode(codes: tl.tensor, table_ptr: tl.tensor, fmt: tl.constexpr) -> tl.tensor:
    """Decode codes to float32."""
    single: tl.constexpr = layout_of_width(32)
    if table_ptr is not None:
        value = tl.load(table_ptr + (codes & (fmt.num_codes - 1)))
    elif is_float(fmt):
        value = value_of(decode_patterns(codes, fmt, single))
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
def _tile_of(
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
) -> tl.tensor:
    """Load what groups have, [BLOCK_N or 1, BLOCK_K or 1]."""
    if EXTENT == 0:
        row = tl.zeros([1, 1], tl.int64)
    else:
        row = (tl.minimum(columns, N - 1) // EXTENT).to(tl.int64)[:, None] * blocks
    k = start + tl.arange(0, BLOCK_K)
    if group_ptr is not None:
        found = tl.load(ptr + row + tl.load(group_ptr + k, mask=k < K, other=0)[None, :])
    elif GROUP == 0:
        found = tl.load(ptr + row)
    elif GROUP % BLOCK_K == 0:
        found = tl.load(ptr + row + start // GROUP)
    elif BLOCK_K % GROUP == 0:
        block = start // GROUP + tl.arange(0, BLOCK_K // GROUP)
        few = tl.load(ptr + row + tl.minimum(block, blocks - 1)[None, :])
        rows: tl.constexpr = few.shape[0]
        many = tl.broadcast_to(few[:, :, None], (rows, BLOCK_K // GROUP, GROUP))
        found = tl.reshape(many, (rows, BLOCK_K))
    else:
        found = tl.load(ptr + row + tl.minimum(k // GROUP, blocks - 1)[None, :])
    return found


@triton.jit
def dequantize_tile(
    codes: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    table_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    group_ptr: tl.tensor,
    columns: tl.tensor,
    start: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    blocks: tl.tensor,
    fmt: tl.constexpr,
    scale_fmt: tl.constexpr,
    EXTENT: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    """Compute `(decode(codes) - zero) * scale * tensor_scale` in float32, a rounding each.

    Args:
        codes: int32 [BLOCK_N, BLOCK_K].
        scale_ptr: [rows of scales, blocks].
        zero_ptr: likewise, int32; None for 0.
        table_ptr: value of every code in float32, of a codebook; else None.
        tensor_scale_ptr: one more factor, float32; None for 1.
        group_ptr: the group of each column of the weight; None for consecutive ones.
        columns: rows of the weight.
        start: its first column.
        N: how many rows the weight has.
        K: how many columns.
        blocks: how many groups.
        fmt: of the codes.
        scale_fmt: of scales that are codes; None for floats and E8M0.
        EXTENT: rows that share a scale; 0 for all.
        GROUP: columns that do; 0 for all.
        BLOCK_K: columns of the tile.
    """
    single: tl.constexpr = layout_of_width(32)
    value = _decode(codes, table_ptr, fmt)
    if zero_ptr is not None:
        zero = _tile_of(zero_ptr, group_ptr, columns, start, N, K, blocks, EXTENT, GROUP, BLOCK_K)
        value = value - zero.to(tl.float32)
    scale = _tile_of(scale_ptr, group_ptr, columns, start, N, K, blocks, EXTENT, GROUP, BLOCK_K)
    if scale_fmt is None:
        factor = scale_values(scale, single)
    else:
        factor = value_of(decode_patterns(scale.to(tl.int32), scale_fmt, single))
    value = value * factor
    if tensor_scale_ptr is not None:
        value = value * tl.load(tensor_scale_ptr)
    return value
