"""`fp8_matmul` on tensor cores: partial sums are brought to float32 every 128 products, or where scales change."""

import math
from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import ElementFormat, FloatFormat, Format, ScaleOrder
from incref.numerics.codes import code_dtype
from incref.numerics.constant import constant_in_graphs
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import as_rows, require_matrices, require_output
from incref.ops.quantize_float import get_float_format
from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.device.facts import bfloat16
from incref_kernels.triton.device.groups import group_place
from incref_kernels.triton.device.matmul import (
    apply_scales,
    load_factors,
    load_scales,
    multiply_scales,
    store_tile,
    tile_place,
)
from incref_kernels.triton.groups import groups_of, scale_step, stacked_scale, why_not_groups
from incref_kernels.triton.hardware import FP8_TYPES
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_format, why_not_tensors
from incref_kernels.triton.matmul import LEAST_K, RowScale, row_scale, stretch_of, swapped, why_not_order
from incref_kernels.triton.matmul_tiles import MatmulTile, fit_tile, tile_for
from incref_kernels.triton.targets import Factors, declared_sums_of_codes, factors_for, target_of

__all__ = ["KERNEL", "K_OF_BFLOAT16", "TILES", "fp8_matmul", "fp8_matmul_kernel"]

_FEW_ROWS = (
    MatmulTile(block_m=64, block_n=16, block_k=128, num_warps=4, num_stages=5, is_transposed=True),
    MatmulTile(block_m=128, block_n=32, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
)
TILES: tuple[MatmulTile, ...] = (
    *_FEW_ROWS,
    MatmulTile(block_m=64, block_n=128, block_k=128, num_warps=4, num_stages=4),
    MatmulTile(block_m=128, block_n=128, block_k=128, num_warps=8, num_stages=4),
)
TILES_OF_HOPPER: tuple[MatmulTile, ...] = (
    *TILES[:-1],
    MatmulTile(block_m=128, block_n=128, block_k=128, num_warps=4, num_stages=3),
)
"""The same where sums lie in registers until groups of warps have added to them; elsewhere the last would spill."""
K_OF_BFLOAT16 = 64
"""The most that a tile has along K for codes as bfloat16: twice the bytes, and registers for the conversion."""
_WARPS_OF_STRETCHES = 8
_TYPES = {
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
}
# How often partial sums of units that keep few bits are added in float32 (DeepSeek-V3, arXiv 2412.19437, 3.3.2).
_PROMOTED_EVERY = 128


@triton.jit
def _factor(
    base: tl.tensor,
    k: tl.tensor,
    stride: tl.tensor,
    K: tl.tensor,
    fmt: tl.constexpr,
    dot_type: tl.constexpr,
    AXIS: tl.constexpr,
    EVEN_K: tl.constexpr,
) -> tl.tensor:
    """Load the values of a Triton type, or codes as bfloat16 if that is None; 0 beyond K."""
    if dot_type is not None:
        # What is copied to shared memory is multiplied there as it is.
        value = load_factors(base, k, stride, K, AXIS, EVEN_K, REST=tl.zeros([], tl.uint8).to(dot_type, bitcast=True))
    else:
        codes = load_factors(base, k, stride, K, AXIS, EVEN_K)
        half: tl.constexpr = bfloat16()
        value = decode_patterns(codes.to(tl.int32), fmt, half).to(tl.int16).to(tl.bfloat16, bitcast=True)
        if not EVEN_K and not fmt.has_zero:
            # Code 0 of E8M0 is its least power of two.
            value = tl.where(tl.expand_dims(k < K, 1 - AXIS), value, 0.0)
    return value


@triton.jit
def fp8_matmul_kernel(  # noqa: C901, PLR0912  # Triton decides most of it while it compiles
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
    x_blocks: tl.tensor,
    w_blocks: tl.tensor,
    x_step: tl.tensor,
    w_step: tl.tensor,
    x_scale_step: tl.tensor,
    w_scale_step: tl.tensor,
    x_fmt: tl.constexpr,
    w_fmt: tl.constexpr,
    x_type: tl.constexpr,
    w_type: tl.constexpr,
    order: tl.constexpr,
    layout: tl.constexpr,
    X_EXTENT: tl.constexpr,
    W_EXTENT: tl.constexpr,
    STRETCH: tl.constexpr,
    PROMOTE: tl.constexpr,
    BIAS_AXIS: tl.constexpr,
    GROUPS: tl.constexpr,
    AHEAD: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
) -> None:
    """Compute a tile of `x @ w.T`, in stretches of STRETCH along K with scales of their own; 0 is all of K.

    With AHEAD these are asked for before the products that they follow, and come while they are computed.

    With `ends_ptr`, of the product of one of GROUPS groups: what has no bias along it is divided, and the steps say how
    far a row of it, or a weight, is from the one before.
    """
    program = tl.program_id(0)
    if ends_ptr is not None:
        group, first, count, program, beside = group_place(ends_ptr, program, M, N, BLOCK_M, BLOCK_N, BIAS_AXIS, GROUPS)
        if group == GROUPS:
            return
        if BIAS_AXIS == 1:
            M, x_at, w_at, out_step = count, first, group, out_row
        else:
            N, x_at, w_at, out_step = count, group, first, out_column
        x_ptr += x_at * x_step
        w_ptr += w_at * w_step
        out_ptr += first * out_step
        if x_scale_ptr is not None:
            x_scale_ptr += x_at * x_scale_step
        if w_scale_ptr is not None:
            w_scale_ptr += w_at * w_scale_step
        if bias_ptr is not None:
            bias_ptr += beside
    rows, columns = tile_place(program, M, N, BLOCK_M, BLOCK_N, GROUP_M)
    # Rows beyond the end repeat the last one, and are not stored.
    x_base = x_ptr + tl.minimum(rows, M - 1).to(tl.int64)[:, None] * x_row
    w_base = w_ptr + tl.minimum(columns, N - 1).to(tl.int64)[None, :] * w_row
    if STRETCH == 0:
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, K, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            x = _factor(x_base, k, x_k, K, x_fmt, x_type, 1, EVEN_K)
            w = _factor(w_base, k, w_k, K, w_fmt, w_type, 0, EVEN_K)
            total = tl.dot(x, w, total, input_precision="ieee", max_num_imprecise_acc=PROMOTE)
        total = apply_scales(
            total, x_scale_ptr, w_scale_ptr, rows, columns, M, N, 0, x_blocks, w_blocks, order, X_EXTENT, W_EXTENT
        )
    else:
        # What is added to -0 stays what it is.
        total = tl.full((BLOCK_M, BLOCK_N), -0.0, tl.float32)
        for first in range(0, K, STRETCH):
            at = first // STRETCH
            if AHEAD:
                x_scale = load_scales(x_scale_ptr, rows, M, at, x_blocks, X_EXTENT)
                w_scale = load_scales(w_scale_ptr, columns, N, at, w_blocks, W_EXTENT)
            acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
            for step in tl.static_range(0, STRETCH, BLOCK_K):
                k = first + step + tl.arange(0, BLOCK_K)
                x = _factor(x_base, k, x_k, K, x_fmt, x_type, 1, EVEN_K)
                w = _factor(w_base, k, w_k, K, w_fmt, w_type, 0, EVEN_K)
                acc = tl.dot(x, w, acc, input_precision="ieee", max_num_imprecise_acc=PROMOTE)
            if not AHEAD:
                x_scale = load_scales(x_scale_ptr, rows, M, at, x_blocks, X_EXTENT)
                w_scale = load_scales(w_scale_ptr, columns, N, at, w_blocks, W_EXTENT)
            total += multiply_scales(acc, x_scale, w_scale, order)
    store_tile(total, bias_ptr, out_ptr, rows, columns, M, N, out_row, out_column, layout, BIAS_AXIS)


def fp8_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
    factors: Factors | None = None,
    tile: MatmulTile | None = None,
    ends: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.fp8_matmul` in a kernel; any strides are read where they are.

    The accumulator is `targets.accumulator(device, factors)`, begun anew for every stretch of K with scales of its own.
    With `ends` it is `incref.ops.grouped.grouped` of it.
    """
    groups = groups_of(ends, x, w)
    weight = w if groups is None else w[0]
    require_matrices(x, weight)
    require_output(dtype, bias if groups is None or bias is None else bias[0], weight.shape[0])
    left_fmt, right_fmt = _format_of(x, x_fmt), _format_of(w, w_fmt)
    left = row_scale("x_scale", x_scale, x.shape, x_granularity)
    right = (row_scale if groups is None else stacked_scale)("w_scale", w_scale, weight.shape, w_granularity)
    stretch = stretch_of(left, right)
    flat = as_rows(x)
    (rows, length), columns = flat.shape, weight.shape[0]
    out = (torch.empty if groups is None else torch.zeros)(rows, columns, dtype=dtype, device=x.device)
    factors = factors or factors_for(x.device, left_fmt, right_fmt)
    if factors is Factors.BLOCKS:
        raise ValueError("factors must be Factors.CODES or Factors.BFLOAT16, got Factors.BLOCKS")
    tile = tile or _tile(groups.usual_rows(rows) if groups else rows, stretch, x.device, factors)
    is_coded = factors is Factors.CODES
    x_steps = (flat.stride(0) if groups else None, scale_step(left, groups, is_weight=False))
    w_steps = (w.stride(0) if groups else None, scale_step(right, groups, is_weight=True))
    sides = [_Side(flat, left, left_fmt, x_steps), _Side(w, right, right_fmt, w_steps)]
    patterns = out.view(pattern_dtype(dtype))
    if tile.is_transposed:
        sides, patterns, order = sides[::-1], patterns.T, swapped(order)
    one, other = sides
    launch(
        fp8_matmul_kernel,
        groups.programs(tile, rows, columns) if groups else tile.programs(rows, columns),
        one.codes.view(_TYPES[one.fmt.name]) if is_coded else one.codes,
        other.codes.view(_TYPES[other.fmt.name]) if is_coded else other.codes,
        one.scale.scale,
        other.scale.scale,
        None if bias is None else bias.contiguous(),
        groups.ends if groups else None,
        patterns,
        *patterns.shape,
        length,
        *one.codes.stride()[-2:],
        *other.codes.stride()[-2:],
        *patterns.stride(),
        one.scale.blocks,
        other.scale.blocks,
        one.steps[0],
        other.steps[0],
        one.steps[1],
        other.steps[1],
        device=x.device,
        tile=tile,
        x_fmt=one.fmt,
        w_fmt=other.fmt,
        x_type=FP8_TYPES[one.fmt.name] if is_coded else None,
        w_type=FP8_TYPES[other.fmt.name] if is_coded else None,
        order=order,
        layout=float_format_of(dtype),
        X_EXTENT=one.scale.extent,
        W_EXTENT=other.scale.extent,
        STRETCH=stretch,
        # The sum of a short stretch is brought to float32 where it is scaled.
        PROMOTE=min(_PROMOTED_EVERY, tile.block_k) if is_coded and not 0 < stretch <= _PROMOTED_EVERY else None,
        BIAS_AXIS=0 if tile.is_transposed else 1,
        GROUPS=groups.count if groups else 0,
        # Where groups of warps multiply, registers are left for them.
        AHEAD=target_of(x.device).is_hopper,
        EVEN_K=length % (stretch or tile.block_k) == 0,
        **tile.constants(),
    )
    return out.view(*x.shape[:-1], columns)


@dataclass(frozen=True)
class _Side:
    """A factor: codes [..., rows, K], their scales and format, and steps from row to row or from weight to weight."""

    codes: Tensor
    scale: RowScale
    fmt: FloatFormat
    steps: tuple[int | None, int | None]


def _format_of(codes: Tensor, fmt: str | Format) -> FloatFormat:
    source = get_float_format(fmt)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    assert isinstance(source, FloatFormat)
    return source


def _tile(rows: int, stretch: int, device: torch.device, factors: Factors) -> MatmulTile:
    """Choose a tile whose K fits the stretches."""
    if target_of(device).is_hopper and factors is Factors.CODES:
        table = TILES if stretch else TILES_OF_HOPPER
    else:
        # The sums of a stretch are scaled in registers of their own, for which a tile of fewer rows has room.
        table = TILES[:-1] if stretch else TILES
    tile = tile_for(table, rows)
    if factors is Factors.BFLOAT16:
        tile = replace(tile, block_k=min(tile.block_k, K_OF_BFLOAT16))
    if factors is Factors.BFLOAT16 and stretch:
        # Beside two sums and the conversion there are registers for no more.
        tile = replace(tile, block_k=LEAST_K, num_warps=_WARPS_OF_STRETCHES, num_stages=min(tile.num_stages, 3))
    if stretch:
        tile = replace(tile, block_k=math.gcd(tile.block_k, stretch))
    size = 1 if factors is Factors.CODES else 2
    return fit_tile(tile, device, x_bytes=size, w_bytes=size)


def why_not(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    ends: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"x": x, "w": w, "x_scale": x_scale, "w_scale": w_scale, "bias": bias, "ends": ends}
    reason = why_not_tensors(tensors) or why_not_order(order, x_scale, w_scale, bias)
    for fmt in (x_fmt, w_fmt):
        reason = reason or why_not_format(get_float_format(fmt)) or _why_not_flushed(get_float_format(fmt), x.device)
    reason = reason or why_not_groups(ends, x_granularity if x_scale is not None else None, x)
    weight = w if ends is None else w[0]
    for codes, granularity, scale in ((x, x_granularity, x_scale), (weight, w_granularity, w_scale)):
        block = granularity.block_shape(codes.shape)[-1]
        if reason is None and scale is not None and block < codes.shape[-1] and block % LEAST_K:
            reason = f"it takes blocks of a multiple of {LEAST_K} along K, got {block}"
    return reason


def _why_not_flushed(fmt: ElementFormat, device: torch.device) -> str | None:
    """Say why the values of a format are not what a device multiplies: those of E8M0 start below its normal ones."""
    is_small = isinstance(fmt, FloatFormat) and fmt.emin < float_format_of(torch.bfloat16).emin
    flushing = _flushing(device)
    return f"{flushing} flushes subnormals of bfloat16, which {fmt.name} reaches" if is_small and flushing else None


@constant_in_graphs
def _flushing(device: torch.device) -> str | None:
    """The architecture of a device that flushes halves; None for another."""
    target = target_of(device)
    return target.arch if target.flushes_halves else None


KERNEL = Kernel(fn=fp8_matmul, why_not=why_not, accumulator=declared_sums_of_codes)
