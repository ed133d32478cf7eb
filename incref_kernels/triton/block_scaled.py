"""`mx_matmul` by matrix units that take the scales of blocks: `tl.dot_scaled` on codes as they are.

How such units add is not known for any GPU yet, so `mx_matmul` takes this way where it is asked to; compiled for the
CPU it is the instruction of gfx950, whose products with their scales are exact and whose sums are rounded one by one.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.formats import E8M0, BlockFormat
from incref.numerics.patterns import float_format_of
from incref_kernels.triton.device.groups import group_place
from incref_kernels.triton.device.matmul import load_factors, store_tile, tile_place
from incref_kernels.triton.groups import Groups
from incref_kernels.triton.launch import launch, pattern_dtype
from incref_kernels.triton.matmul_tiles import MatmulTile, fit_tile, tile_for
from incref_kernels.triton.targets import target_of

__all__ = ["TILES", "block_scaled_kernel", "multiply_scaled", "why_not_scaled"]

TILES = (
    MatmulTile(block_m=128, block_n=16, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=128, block_n=64, block_k=128, num_warps=4, num_stages=3, is_transposed=True),
    MatmulTile(block_m=128, block_n=128, block_k=128, num_warps=8, num_stages=3),
)
"""Tiles by the rows of `x`; units of Blackwell take 128 rows of the first factor."""

_TYPES: Mapping[str, str] = {"float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "float4_e2m1fn": "e2m1"}
"""Triton's names of the elements that such units take."""
_BLOCK = 32
_PACKED = 4


@triton.jit
def _codes(
    base: tl.tensor,
    start: tl.tensor,
    stride: tl.tensor,
    K: tl.tensor,
    BITS: tl.constexpr,
    EVEN_K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    """Load the codes of ROWS rows, of which two share a byte if they have four bits; 0 beyond K."""
    codes = load_factors(base, start + tl.arange(0, BLOCK_K), stride, K, 1, EVEN_K)
    if BITS == 4:
        low, high = tl.split(tl.reshape(codes, (ROWS, BLOCK_K // 2, 2)))
        codes = (low & 15) | (high << 4)
    return codes


@triton.jit
def block_scaled_kernel(
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    x_scale_ptr: tl.tensor,
    w_scale_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    ends_ptr: tl.tensor,
    out_ptr: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    x_row: tl.tensor,
    x_k: tl.tensor,
    w_row: tl.tensor,
    w_k: tl.tensor,
    out_row: tl.tensor,
    out_column: tl.tensor,
    x_fmt: tl.constexpr,
    w_fmt: tl.constexpr,
    x_type: tl.constexpr,
    w_type: tl.constexpr,
    layout: tl.constexpr,
    BIAS_AXIS: tl.constexpr,
    GROUPS: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
) -> None:
    """Compute a tile of `x @ w.T`, whose elements share scales in blocks of 32.

    With `ends_ptr`, of the product of one of GROUPS groups: what has no bias along it is divided, and the rows of the
    other matrices follow one another.
    """
    program = tl.program_id(0)
    if ends_ptr is not None:
        group, first, count, program, beside = group_place(ends_ptr, program, M, N, BLOCK_M, BLOCK_N, BIAS_AXIS, GROUPS)
        if group == GROUPS:
            return
        if BIAS_AXIS == 1:
            M, x_first, w_first, out_step = count, first, beside, out_row
        else:
            N, x_first, w_first, out_step = count, beside, first, out_column
        x_ptr += x_first * x_row
        w_ptr += w_first * w_row
        x_scale_ptr += x_first * tl.cdiv(K, x_fmt.block_size)
        w_scale_ptr += w_first * tl.cdiv(K, w_fmt.block_size)
        out_ptr += first * out_step
        if bias_ptr is not None:
            bias_ptr += beside
    rows, columns = tile_place(program, M, N, BLOCK_M, BLOCK_N, GROUP_M)
    # Rows beyond the end repeat the last one, and are not stored.
    x_at = tl.minimum(rows, M - 1).to(tl.int64)[:, None]
    w_at = tl.minimum(columns, N - 1).to(tl.int64)[:, None]
    size: tl.constexpr = x_fmt.block_size
    one: tl.constexpr = x_fmt.scale.bias
    blocks = tl.cdiv(K, size)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        block = start // size + tl.arange(0, BLOCK_K // size)
        x_scale = load_factors(x_scale_ptr + x_at * blocks, block, 1, blocks, 1, EVEN_K, one)
        w_scale = load_factors(w_scale_ptr + w_at * blocks, block, 1, blocks, 1, EVEN_K, one)
        x = _codes(x_ptr + x_at * x_row, start, x_k, K, x_fmt.element.bits, EVEN_K, BLOCK_M, BLOCK_K)
        w = _codes(w_ptr + w_at * w_row, start, w_k, K, w_fmt.element.bits, EVEN_K, BLOCK_N, BLOCK_K)
        acc = tl.dot_scaled(x, x_scale, x_type, tl.trans(w), w_scale, w_type, acc)
    store_tile(acc, bias_ptr, out_ptr, rows, columns, M, N, out_row, out_column, layout, BIAS_AXIS)


def multiply_scaled(
    codes: tuple[Tensor, Tensor],
    scales: tuple[Tensor, Tensor],
    formats: tuple[BlockFormat, BlockFormat],
    out: Tensor,
    bias: Tensor | None,
    tile: MatmulTile | None = None,
    groups: Groups | None = None,
) -> None:
    """Multiply `x` [M, K] by the transpose of `w` [N, K] in a kernel.

    Args:
        codes: of the elements of both, with any strides.
        scales: of the blocks of both, contiguous.
        formats: of both, that `why_not_scaled` has nothing against.
        out: [M, N], contiguous.
        bias: [N].
        tile: sizes; by default those of `TILES`.
        groups: of the rows of `x`; then those of the weights follow one another in `w`, as their biases do.
    """
    rows, length = codes[0].shape
    usual = groups.usual_rows(rows) if groups else rows
    tile = _staged(tile or _tile(usual, out.device), out.device, formats)
    patterns = out.view(pattern_dtype(out.dtype))
    if tile.is_transposed:
        codes, scales, formats, patterns = codes[::-1], scales[::-1], formats[::-1], patterns.T
    launch(
        block_scaled_kernel,
        groups.programs(tile, *out.shape) if groups else tile.programs(*out.shape),
        *(one.view(torch.uint8) for one in codes),
        *scales,
        None if bias is None else bias.contiguous(),
        groups.ends if groups else None,
        patterns,
        *patterns.shape,
        length,
        *codes[0].stride(),
        *codes[1].stride(),
        *patterns.stride(),
        device=out.device,
        tile=tile,
        x_fmt=formats[0],
        w_fmt=formats[1],
        x_type=_TYPES[formats[0].element.name],
        w_type=_TYPES[formats[1].element.name],
        layout=float_format_of(out.dtype),
        BIAS_AXIS=0 if tile.is_transposed else 1,
        GROUPS=groups.count if groups else 0,
        EVEN_K=length % tile.block_k == 0,
        **tile.constants(),
    )


def _tile(rows: int, device: torch.device) -> MatmulTile:
    """Choose a tile; units for scaled blocks take no less along K."""
    tile = tile_for(TILES, rows)
    return replace(fit_tile(tile, device, x_bytes=1, w_bytes=1), block_k=tile.block_k)


def _staged(tile: MatmulTile, device: torch.device, formats: tuple[BlockFormat, BlockFormat]) -> MatmulTile:
    """Limit the stages to what a device has use for."""
    kind = target_of(device).kind
    if kind == "cpu":
        # What gfx950 copies to shared memory in the background is not known there, and would gain nothing.
        return replace(tile, num_stages=1)
    if kind == "hip" and any(fmt.element.bits == _PACKED for fmt in formats):
        # Codes that are packed wait in registers: with one more stage a SIMD holds one wave in place of three.
        return replace(tile, num_stages=min(tile.num_stages, 2))
    return tile


def why_not_scaled(device: torch.device, *formats: BlockFormat) -> str | None:
    """Say why units for scaled blocks can't multiply formats, or why a device has none."""
    target = target_of(device)
    if not target.scales_blocks:
        return f"{target.arch or target.kind} has no matrix units that scale blocks"
    for fmt in formats:
        if fmt.element.name not in _TYPES or fmt.scale != E8M0 or fmt.block_size != _BLOCK:
            taken = ", ".join(_TYPES)
            return f"matrix units scale blocks of {_BLOCK} by {E8M0.name}, of {taken}, got {fmt.name}"
    return None
