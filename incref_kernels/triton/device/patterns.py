"""Bit patterns of float tensors."""

import triton
import triton.language as tl

__all__ = ["integer_pattern", "load_patterns", "split", "widen"]


@triton.jit
def load_patterns(pointers: tl.tensor, mask: tl.tensor) -> tl.tensor:
    """Load floats as signed patterns: binary64 for float64, else binary32; 0 where `mask` is false."""
    return widen(tl.load(pointers, mask=mask, other=0))


@triton.jit
def widen(x: tl.tensor) -> tl.tensor:
    """Read floats as signed patterns: binary64 for float64, else binary32, with the signs of zeros and NaNs.

    Integers are patterns already.
    """
    if x.dtype.is_int():
        signed = x
    elif x.dtype.is_fp64():
        signed = x.to(tl.int64, bitcast=True)
    elif x.dtype.is_fp32():
        signed = x.to(tl.int32, bitcast=True)
    elif x.dtype.is_bf16():
        signed = x.to(tl.int16, bitcast=True).to(tl.int32) << 16
    else:
        # The conversion may lose the sign of a NaN.
        sign = x.to(tl.int16, bitcast=True).to(tl.int32) >> 15 << 31
        signed = (x.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF) | sign
    return signed


@triton.jit
def split(magnitude: tl.tensor, layout: tl.constexpr, normalize: tl.constexpr) -> tl.tensor:
    """Split magnitudes into `significand * 2**(power - mantissa_bits)`; Inf and NaN as if they were finite.

    Unless `normalize`, subnormals keep the power of the smallest normal and a significand without a leading one.
    """
    width: tl.constexpr = layout.mantissa_bits
    field = magnitude >> width
    pattern = magnitude
    if normalize:
        as_float = integer_pattern(magnitude, layout)
        is_subnormal = field == 0
        field = tl.where(is_subnormal, (as_float >> width) - (width - layout.emin), field)
        pattern = tl.where(is_subnormal, as_float, pattern)
        leading = (magnitude != 0).to(magnitude.dtype)
    else:
        leading = (field != 0).to(magnitude.dtype)
        field = tl.maximum(field, 1)
    significand = (pattern & ((1 << width) - 1)) | (leading << width)
    return significand, field - layout.bias


@triton.jit
def integer_pattern(integer: tl.tensor, layout: tl.constexpr) -> tl.tensor:
    """Pattern of the float that an integer of at most `mantissa_bits + 1` bits is; it is exact, and normal or zero."""
    if layout.bits == 64:
        pattern = integer.to(tl.float64).to(tl.int64, bitcast=True)
    else:
        pattern = integer.to(tl.float32).to(tl.int32, bitcast=True)
    return pattern
