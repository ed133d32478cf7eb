"""Scales of blocks from their largest magnitudes."""

import triton
import triton.language as tl

from incref_kernels.triton.device.scales import affine_scale, extreme_scale, float_scale, power_scale

__all__ = ["affine_scale_kernel", "float_scale_kernel", "power_scale_kernel"]


@triton.jit
def power_scale_kernel(
    amax_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    count: tl.tensor,
    layout: tl.constexpr,
    element: tl.constexpr,
    rule: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write codes of E8M0."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    amax = tl.load(amax_ptr + place, mask=place < count, other=0)
    codes = power_scale(amax, layout, element, rule)
    tl.store(scale_ptr + place, codes.to(tl.uint8), mask=place < count)


@triton.jit
def float_scale_kernel(
    amax_ptr: tl.tensor,
    below_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    count: tl.tensor,
    layout: tl.constexpr,
    limit: tl.constexpr,
    rule: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write patterns of scales that put amax on `limit`, or with `below_ptr` the extreme on `-limit`."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    amax = tl.load(amax_ptr + place, mask=place < count, other=0)
    if below_ptr is None:
        pattern = float_scale(amax, layout, limit, rule)
    else:
        below = tl.load(below_ptr + place, mask=place < count, other=0)
        pattern = extreme_scale(amax, below, layout, limit, rule)
    tl.store(scale_ptr + place, pattern, mask=place < count)


@triton.jit
def affine_scale_kernel(
    above_ptr: tl.tensor,
    below_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    count: tl.tensor,
    layout: tl.constexpr,
    fmt: tl.constexpr,
    rule: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write patterns of scales, and zero points, that put `[-below, above]` on the codes of `fmt`."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    above = tl.load(above_ptr + place, mask=place < count, other=0)
    below = tl.load(below_ptr + place, mask=place < count, other=0)
    pattern, zero = affine_scale(above, below, layout, fmt, rule)
    tl.store(scale_ptr + place, pattern, mask=place < count)
    tl.store(zero_ptr + place, zero.to(tl.int32), mask=place < count)
