"""`int8_matmul` on integer tensor cores: int32 sums, which are exact, and the stated roundings after them."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import FORMATS, IntFormat, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import as_rows, require_output
from incref.ops.int8_matmul import require_codes, require_zero_point
from incref_kernels.triton.device.matmul import apply_scales, load_factors, store_tile, tile_place
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_tensors
from incref_kernels.triton.matmul import RowScale, row_scale, row_values, why_not_order
from incref_kernels.triton.matmul_tiles import MatmulTile, fit_tile, tile_for
from incref_kernels.triton.targets import target_of

__all__ = ["KERNEL", "TILES", "TILES_OF_HOPPER", "int8_matmul", "int8_matmul_kernel"]

TILES = (
    MatmulTile(block_m=16, block_n=64, block_k=256, num_warps=4, num_stages=4),
    MatmulTile(block_m=64, block_n=128, block_k=128, num_warps=4, num_stages=4),
    MatmulTile(block_m=128, block_n=128, block_k=128, num_warps=8, num_stages=3),
)
"""Tiles by the rows of `x`."""
TILES_OF_HOPPER = (*TILES[:-1], MatmulTile(block_m=128, block_n=256, block_k=128, num_warps=8, num_stages=4))
"""The same where groups of warps multiply from shared memory; elsewhere the last would not fit the registers."""


@triton.jit
def _zeros(zero_ptr: tl.tensor, index: tl.tensor, extent: tl.tensor, EXTENT: tl.constexpr) -> tl.tensor:
    """Load the zero points of rows; EXTENT rows share one, 0 for all."""
    if EXTENT == 0:
        place = tl.zeros_like(index)
    else:
        place = tl.minimum(index, extent - 1) // EXTENT
    return tl.load(zero_ptr + place)


@triton.jit
def int8_matmul_kernel(
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    x_scale_ptr: tl.tensor,
    w_scale_ptr: tl.tensor,
    x_zero_ptr: tl.tensor,
    w_zero_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    x_row: tl.tensor,
    x_k: tl.tensor,
    w_row: tl.tensor,
    w_k: tl.tensor,
    order: tl.constexpr,
    layout: tl.constexpr,
    OFFSET: tl.constexpr,
    X_EXTENT: tl.constexpr,
    W_EXTENT: tl.constexpr,
    X_ZERO_EXTENT: tl.constexpr,
    W_ZERO_EXTENT: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
) -> None:
    """Compute a tile of `(x - x_zero) @ (w - w_zero).T` and scale it.

    Unsigned codes are shifted by OFFSET to signed ones, and so is their zero point. With sums along K, `acc` becomes
    `x @ w.T - x_zero * sum(w) - w_zero * (sum(x) - K * x_zero)`, modulo 2**32 and so exact.
    """
    rows, columns = tile_place(tl.program_id(0), M, N, BLOCK_M, BLOCK_N, GROUP_M)
    # Rows beyond the end repeat the last one, and are not stored.
    x_base = x_ptr + tl.minimum(rows, M - 1).to(tl.int64)[:, None] * x_row
    w_base = w_ptr + tl.minimum(columns, N - 1).to(tl.int64)[None, :] * w_row
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    x_total = tl.zeros((BLOCK_M,), tl.int32)
    w_total = tl.zeros((BLOCK_N,), tl.int32)
    has_x_zero: tl.constexpr = OFFSET + (x_zero_ptr is not None) != 0
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        x = load_factors(x_base, k, x_k, K, 1, EVEN_K, OFFSET)
        w = load_factors(w_base, k, w_k, K, 0, EVEN_K)
        if OFFSET != 0:
            x = (x ^ OFFSET).to(tl.int8, bitcast=True)
        acc = tl.dot(x, w, acc, out_dtype=tl.int32)
        if has_x_zero:
            w_total += tl.sum(w.to(tl.int32), axis=0)
        if w_zero_ptr is not None:
            x_total += tl.sum(x.to(tl.int32), axis=1)
    if has_x_zero:
        x_zero = tl.zeros((BLOCK_M,), tl.int32) - OFFSET
        if x_zero_ptr is not None:
            x_zero += _zeros(x_zero_ptr, rows, M, X_ZERO_EXTENT)
        acc -= x_zero[:, None] * w_total[None, :]
        x_total -= K * x_zero
    if w_zero_ptr is not None:
        acc -= x_total[:, None] * _zeros(w_zero_ptr, columns, N, W_ZERO_EXTENT)[None, :]
    if layout is None:
        store_tile(acc, None, out_ptr, rows, columns, M, N, N, 1, layout, 1)
    else:
        value = apply_scales(
            acc.to(tl.float32), x_scale_ptr, w_scale_ptr, rows, columns, M, N, 0, 1, 1, order, X_EXTENT, W_EXTENT
        )
        store_tile(value, bias_ptr, out_ptr, rows, columns, M, N, N, 1, layout, 1)


def int8_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None = None,
    w_scale: Tensor | None = None,
    *,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    dtype: torch.dtype = torch.float32,
    tile: MatmulTile | None = None,
) -> Tensor:
    """Run `incref.ops.int8_matmul` in a kernel; any strides are read where they are."""
    require_codes(x, w, x_zero_point, w_zero_point)
    require_output(dtype, bias, w.shape[0])
    left = row_scale("x_scale", x_scale, x.shape, x_granularity)
    right = row_scale("w_scale", w_scale, w.shape, w_granularity)
    for name, one, granularity, codes in (("x_scale", left, x_granularity, x), ("w_scale", right, w_granularity, w)):
        if one.block:
            raise ValueError(f"{name} must not differ along K, got blocks of {granularity.block_shape(codes.shape)}")
    x_zero = _zero_points("x_zero_point", x, x_zero_point, x_granularity)
    w_zero = _zero_points("w_zero_point", w, w_zero_point, w_granularity)
    flat = as_rows(x)
    (rows, length), columns = flat.shape, w.shape[0]
    is_scaled = any(each is not None for each in (x_scale, w_scale, bias))
    out = torch.empty(rows, columns, dtype=dtype if is_scaled else torch.int32, device=x.device)
    tile = tile or fit_tile(
        tile_for(TILES_OF_HOPPER if target_of(x.device).is_hopper else TILES, rows), x.device, x_bytes=1, w_bytes=1
    )
    launch(
        int8_matmul_kernel,
        tile.programs(rows, columns),
        flat,
        w,
        left.scale,
        right.scale,
        x_zero.scale,
        w_zero.scale,
        None if bias is None else bias.contiguous(),
        out.view(pattern_dtype(dtype)) if is_scaled else out,
        rows,
        columns,
        length,
        *flat.stride(),
        *w.stride(),
        device=x.device,
        tile=tile,
        order=order,
        layout=float_format_of(dtype) if is_scaled else None,
        OFFSET=_offset(x),
        X_EXTENT=left.extent,
        W_EXTENT=right.extent,
        X_ZERO_EXTENT=x_zero.extent,
        W_ZERO_EXTENT=w_zero.extent,
        EVEN_K=length % tile.block_k == 0,
        **tile.constants(),
    )
    return out.view(*x.shape[:-1], columns)


def _zero_points(name: str, codes: Tensor, zero_point: Tensor | None, granularity: Granularity) -> RowScale:
    """Zero points as a column; rows without elements have none."""
    if zero_point is None:
        return RowScale(scale=None)
    require_zero_point(name, codes, zero_point)
    found = row_values(name, zero_point, codes.shape, granularity)
    if found.block:
        raise ValueError(f"{name} must not differ along K, got blocks of {granularity.block_shape(codes.shape)}")
    return found


def _offset(x: Tensor) -> int:
    """What unsigned codes are shifted by to be signed ones."""
    fmt = FORMATS["int8"]
    assert isinstance(fmt, IntFormat)
    return -fmt.min_code if x.dtype is torch.uint8 else 0


def why_not(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None = None,
    w_scale: Tensor | None = None,
    *,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"x": x, "w": w, "x_scale": x_scale, "w_scale": w_scale, "bias": bias}
    tensors |= {"x_zero_point": x_zero_point, "w_zero_point": w_zero_point}
    return why_not_tensors(tensors) or why_not_order(order, x_scale, w_scale, bias)


KERNEL = Kernel(fn=int8_matmul, why_not=why_not)
