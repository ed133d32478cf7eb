"""Results in the dtype that they are stored in."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import pattern_of
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import is_upper_part, layout_of_width, store_encoding

__all__ = ["round_to"]


@triton.jit
def round_to(value: tl.tensor, layout: tl.constexpr) -> tl.tensor:
    """Pattern in `layout` of float32 or float64 values, rounded to nearest even once where `layout` is narrower."""
    pattern = pattern_of(value)
    if is_upper_part(layout, value.dtype.primitive_bitwidth):
        # The carry of a rounded fraction goes on into the exponent, as it should; a NaN must not carry.
        spare: tl.constexpr = value.dtype.primitive_bitwidth - layout.bits
        rounded = (pattern + ((1 << (spare - 1)) - 1) + ((pattern >> spare) & 1)) >> spare
        pattern = tl.where(value != value, layout.nan_code, rounded)  # noqa: PLR0124
    elif layout.bits == 16 and value.dtype.primitive_bitwidth == 32:
        pattern = value.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32)
    elif layout.bits < value.dtype.primitive_bitwidth:
        source: tl.constexpr = layout_of_width(value.dtype.primitive_bitwidth)
        pattern, _ = encode_patterns(pattern, None, None, source, store_encoding(layout))
    return pattern
