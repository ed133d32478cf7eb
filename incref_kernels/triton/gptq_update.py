"""`gptq_update`: rows are independent, so a program takes some of them through all columns of the block."""

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import FORMATS, Format, IntFormat, IntRange, NanRule, Overflow, Rounding, ScaleArithmetic
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.granularity import PER_TOKEN, Granularity
from incref.numerics.scaled import require_scale
from incref.ops.gptq_update import require_block
from incref.ops.quantize_affine import get_int_format
from incref_kernels.scales import require_zero_point
from incref_kernels.triton.device.divide import divide, pattern_of, value_of
from incref_kernels.triton.device.facts import layout_of_width, may_refuse
from incref_kernels.triton.device.scaled import quantize_values
from incref_kernels.triton.launch import launch, lost_flag, raise_if_lost, why_not_tensors
from incref_kernels.triton.sizes import cdiv, next_power_of_2
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["KERNEL", "MOST_COLUMNS", "TILE", "gptq_update", "gptq_update_kernel"]

TILE = Tile(elements=1024)
MOST_COLUMNS = 1024
"""The most columns of a block whose rows stay in registers."""


@triton.jit
def gptq_update_kernel(
    w_ptr: tl.tensor,
    upper_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    error_ptr: tl.tensor,
    updated_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    N: tl.tensor,
    B: tl.tensor,
    size: tl.tensor,
    groups: tl.tensor,
    to: tl.constexpr,
    target: tl.constexpr,
    arithmetic: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Quantize the columns of ROWS rows in order; each adds its error to those that follow."""
    layout: tl.constexpr = layout_of_width(32)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, COLUMNS)
    in_rows = row < N
    mask = in_rows[:, None] & (lane < B)[None, :]
    at = row[:, None] * B + lane[None, :]
    w = tl.load(w_ptr + at, mask=mask, other=0.0)
    codes = tl.zeros([ROWS, COLUMNS], tl.int32)
    error = tl.zeros([ROWS, COLUMNS], tl.float32)
    is_lost = tl.zeros([ROWS], tl.int32)
    for j in range(B):
        is_column = (lane == j)[None, :]
        # One pattern among zeros: their sum is that pattern, also of -0.
        signed = tl.sum(tl.where(is_column, pattern_of(w), 0), axis=1)
        place = row * groups + j // size
        factor = tl.load(scale_ptr + place, mask=in_rows, other=1.0)
        zero = None
        if zero_ptr is not None:
            zero = tl.load(zero_ptr + place, mask=in_rows, other=0)
        code, is_nan = quantize_values(signed, None, factor, zero, layout, to, target, arithmetic, is_shared=False)
        shifted = code
        if zero is not None:
            shifted = code - zero
        value = shifted.to(tl.float32) * factor
        diagonal = tl.load(upper_ptr + j * B + j)
        rest = divide(value_of(signed) - value, diagonal)
        follows = tl.load(upper_ptr + j * B + lane, mask=(lane > j) & (lane < B), other=0.0)
        # A product of its own: a fused operation would round once.
        w = tl.where((lane > j)[None, :], w - follows[None, :] * rest[:, None], w)
        codes = tl.where(is_column, code[:, None], codes)
        error = tl.where(is_column, rest[:, None], error)
        is_lost = is_lost | (is_nan & in_rows).to(tl.int32)
    tl.store(codes_ptr + at, codes.to(codes_ptr.dtype.element_ty), mask=mask)
    tl.store(error_ptr + at, error, mask=mask)
    tl.store(updated_ptr + at, w, mask=mask)
    if lost_ptr is not None:
        tl.store(lost_ptr, 1, mask=tl.max(is_lost, axis=0) != 0)


def gptq_update(
    w: Tensor,
    upper: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TOKEN,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    tile: Tile | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run `incref.ops.gptq_update` in a kernel; a tensor that is not contiguous is copied first.

    The call waits for the kernel to know whether a weight became NaN.
    """
    target = get_int_format(fmt)
    require_block(w, upper, scale, granularity)
    require_scale("scale", scale, w.shape, granularity)
    require_zero_point(zero_point, w, granularity)
    wide = target if zero_point is None else FORMATS["int16"]
    assert isinstance(wide, IntFormat)
    to, limits = (
        Encoding(
            fmt=each,
            rounding=Rounding.NEAREST_EVEN,
            overflow=Overflow.SATURATE,
            nan=NanRule.ERROR,
            int_range=int_range,
        )
        for each in (wide, target)
    )
    (rows, columns), device = w.shape, w.device
    codes = torch.empty(rows, columns, dtype=code_dtype(target), device=device)
    error, updated = (torch.empty(rows, columns, dtype=torch.float32, device=device) for _ in range(2))
    if w.numel() == 0:
        return codes, error, updated
    lost = lost_flag(device, may_refuse=may_refuse(to))
    lanes = next_power_of_2(columns)
    tile = tile or choose(TILE, w)
    height = max(tile.elements // lanes, 1)
    launch(
        gptq_update_kernel,
        cdiv(rows, height),
        w.contiguous(),
        upper.contiguous(),
        scale.contiguous(),
        None if zero_point is None else zero_point.contiguous(),
        codes,
        error,
        updated,
        lost,
        rows,
        columns,
        granularity.block_shape(w.shape)[1],
        scale.shape[1],
        device=device,
        tile=replace(tile, elements=height * lanes),
        to=to,
        target=limits,
        arithmetic=arithmetic,
        ROWS=height,
        COLUMNS=lanes,
    )
    raise_if_lost(lost, target)
    return codes, error, updated


def why_not(
    w: Tensor,
    upper: Tensor,
    scale: Tensor,
    _fmt: str | Format,
    zero_point: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    if w.ndim == 2 and w.shape[1] > MOST_COLUMNS:
        return f"it takes blocks of at most {MOST_COLUMNS} columns, got {w.shape[1]}"
    return why_not_tensors({"w": w, "upper": upper, "scale": scale, "zero_point": zero_point})


KERNEL = Kernel(fn=gptq_update, why_not=why_not)
