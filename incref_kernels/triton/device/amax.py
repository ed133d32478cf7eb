"""Largest magnitudes over many programs: each writes one, and those are reduced again."""

import triton
import triton.language as tl

from incref_kernels.triton.device.patterns import load_patterns
from incref_kernels.triton.device.scales import float_scale

__all__ = ["finite_amax_kernel", "tensor_scale_kernel"]


@triton.jit
def finite_amax_kernel(
    x_ptr: tl.tensor, amax_ptr: tl.tensor, numel: tl.tensor, layout: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """Write the largest finite magnitude pattern among BLOCK elements; `x_ptr` is to floats, or to patterns."""
    tl.store(amax_ptr + tl.program_id(0), _finite_amax(x_ptr, numel, layout, BLOCK))


@triton.jit
def tensor_scale_kernel(
    amax_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    count: tl.tensor,
    layout: tl.constexpr,
    limit: tl.constexpr,
    rule: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write the pattern of the scale that puts the largest of at most BLOCK patterns on `limit`."""
    tl.store(scale_ptr, float_scale(_finite_amax(amax_ptr, count, layout, BLOCK), layout, limit, rule))


@triton.jit
def _finite_amax(x_ptr: tl.tensor, numel: tl.tensor, layout: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    mask = lanes < tl.minimum(numel - start, BLOCK).to(tl.int32)
    magnitude = load_patterns(x_ptr + start + lanes, mask) & (layout.sign_code - 1)
    return tl.max(tl.where(magnitude < layout.inf_code, magnitude, 0), axis=0)
