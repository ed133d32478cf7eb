"""Results in the dtype that they are stored in."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import pattern_of
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import layout_of_width, store_encoding

__all__ = ["round_to"]


@triton.jit
def round_to(value: tl.tensor, layout: tl.constexpr) -> tl.tensor:
    """Pattern in `layout` of float32 or float64 values, rounded to nearest even once where `layout` is narrower."""
    pattern = pattern_of(value)
    if layout.bits < value.dtype.primitive_bitwidth:
        source: tl.constexpr = layout_of_width(value.dtype.primitive_bitwidth)
        pattern, _ = encode_patterns(pattern, None, None, source, store_encoding(layout))
    return pattern
