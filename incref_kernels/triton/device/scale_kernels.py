"""Scales of blocks from their largest magnitudes."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import divide, pattern_of, value_of
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import e8m0, zero_point_encoding
from incref_kernels.triton.device.scales import float_scale, scale_exponent

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
    scale: tl.constexpr = e8m0()
    exponent = scale_exponent(amax, layout, element, rule)
    exponent = tl.minimum(tl.maximum(exponent, scale.emin), scale.emax)
    codes = tl.where(amax >= layout.inf_code, scale.nan_code, exponent + scale.bias)
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
        pattern = float_scale(tl.maximum(amax, below), layout, limit, rule)
        pattern = tl.where((amax > below) & (pattern < layout.inf_code), pattern | -layout.sign_code, pattern)
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
    is_finite = (above < layout.inf_code) & (below < layout.inf_code)
    # Patterns of numbers that are not negative are ordered as those, so the sum is limited as an integer.
    span = tl.minimum(pattern_of(value_of(above) + value_of(below)), layout.max_code)
    span = tl.where(is_finite, span, layout.nan_code)
    limit: tl.constexpr = fmt.num_codes - 1.0
    pattern = float_scale(span, layout, limit, rule)
    offset, _ = encode_patterns(
        pattern_of(divide(value_of(below), value_of(pattern))), None, None, layout, zero_point_encoding()
    )
    zero = tl.where(is_finite, offset, 0) + fmt.min_code
    zero = tl.minimum(tl.maximum(zero, fmt.min_code), fmt.max_code)
    tl.store(scale_ptr + place, pattern, mask=place < count)
    tl.store(zero_ptr + place, zero.to(tl.int32), mask=place < count)
