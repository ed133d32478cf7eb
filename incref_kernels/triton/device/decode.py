"""Codes to values."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import pattern_of, value_of
from incref_kernels.triton.device.facts import (
    decodes_by_product,
    hardware_type,
    has_code_for_nan,
    has_inf,
    has_subnormals,
    is_float,
    layout_of_width,
    nan_is_negative_zero,
    power_of_two,
    working_layout,
)
from incref_kernels.triton.device.patterns import integer_pattern

__all__ = ["decode_patterns", "decode_values", "nan_codes"]


@triton.jit
def decode_patterns(codes: tl.tensor, fmt: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
    """Decode codes, whose bits above the width of `fmt` are ignored, to patterns of `layout`.

    Args:
        codes: int32, or int64 for binary64.
        fmt: a float format of at most 19 bits, or an integer format.
        layout: a format that holds every value of `fmt`.

    Returns:
        Patterns in the dtype of `codes`, negative where the sign bit is set.
    """
    if is_float(fmt):
        pattern = _decode_float(codes & (fmt.num_codes - 1), fmt, layout)
    else:
        pattern = _decode_int(codes, fmt, layout)
    return pattern


@triton.jit
def decode_values(codes: tl.tensor, fmt: tl.constexpr) -> tl.tensor:
    """Decode codes of a float format of at most 8 bits to float32; of NaN it is not said which.

    Args:
        codes: int32; bits above the width of `fmt` are ignored.
        fmt: the format.
    """
    single: tl.constexpr = layout_of_width(32)
    if hardware_type(fmt, single) is not None:
        # By way of binary16, which holds every value.
        eight: tl.constexpr = hardware_type(fmt, single)
        value = codes.to(tl.uint8).to(eight, bitcast=True).to(tl.float16).to(tl.float32)
    else:
        value = value_of(decode_patterns(codes, fmt, single))
    return value


@triton.jit
def _decode_int(codes: tl.tensor, fmt: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
    unused: tl.constexpr = codes.dtype.primitive_bitwidth - fmt.bits
    if fmt.is_signed:
        code = (codes << unused) >> unused
    else:
        code = codes & (fmt.num_codes - 1)
    if decodes_by_product(fmt, layout):
        # A value that is exact in a narrower layout is the upper part of its binary32.
        pattern = pattern_of(code.to(tl.float32) * power_of_two(-fmt.fraction_bits)) >> (32 - layout.bits)
    else:
        pattern = _compose(tl.abs(code), -fmt.fraction_bits + (code ^ code), fmt, layout)
        pattern = tl.where(code < 0, pattern | -layout.sign_code, pattern)
    return pattern


@triton.jit
def _decode_float(code: tl.tensor, fmt: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
    width: tl.constexpr = fmt.mantissa_bits
    magnitude = code & (fmt.num_codes - 1 - fmt.sign_code)
    if hardware_type(fmt, layout) is not None:
        # By way of binary16, which holds every value.
        eight: tl.constexpr = hardware_type(fmt, layout)
        value = magnitude.to(tl.uint8).to(eight, bitcast=True).to(tl.float16).to(tl.float32)
        pattern = pattern_of(value) >> (32 - layout.bits)
    elif decodes_by_product(fmt, layout):
        # In the place of binary32's fields a code means its value times a power of two, subnormals too.
        small = value_of(magnitude << (23 - width))
        pattern = pattern_of(small * power_of_two(127 - fmt.bias)) >> (32 - layout.bits)
    else:
        field = magnitude >> width
        fraction = magnitude & ((1 << width) - 1)
        if fmt.has_zero:
            significand = fraction | ((field != 0).to(code.dtype) << width)
            field = tl.maximum(field, 1)
        else:
            significand = fraction | (1 << width)
        pattern = _compose(significand, field - (fmt.bias + width), fmt, layout)
    if has_inf(fmt):
        pattern = tl.where(magnitude == fmt.inf_code, layout.inf_code, pattern)
    if has_code_for_nan(fmt):
        pattern = tl.where(nan_codes(code, fmt), layout.nan_code, pattern)
    if fmt.is_signed:
        if layout.bits == code.dtype.primitive_bitwidth and not has_code_for_nan(fmt):
            # Beside a choice of NaN this takes more registers.
            pattern = pattern | ((code << (layout.bits - fmt.bits)) & -layout.sign_code)
        else:
            is_negative = (code & fmt.sign_code) != 0
            if nan_is_negative_zero(fmt):
                is_negative = is_negative & (code != fmt.nan_code)
            pattern = tl.where(is_negative, pattern | -layout.sign_code, pattern)
    return pattern


@triton.jit
def nan_codes(code: tl.tensor, fmt: tl.constexpr) -> tl.tensor:
    """Which codes of a format that has NaN are NaN."""
    if has_inf(fmt):
        if fmt.has_signed_nan:
            is_nan = (code & (fmt.sign_code - 1)) > fmt.inf_code
        else:
            is_nan = code == fmt.nan_code
    elif fmt.has_signed_nan:
        is_nan = (code & (fmt.sign_code - 1)) == fmt.nan_code
    else:
        is_nan = code == fmt.nan_code
    return is_nan


@triton.jit
def _compose(significand: tl.tensor, power: tl.tensor, fmt: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
    """Pattern of `significand * 2**power`, a value that `layout` holds."""
    via: tl.constexpr = working_layout(layout)
    spare: tl.constexpr = via.mantissa_bits - layout.mantissa_bits
    # The float of the integer has its fraction, normalized, and its exponent.
    as_float = integer_pattern(significand, via)
    field = (as_float >> via.mantissa_bits) + power + (layout.bias - via.bias)
    fraction = as_float & ((1 << via.mantissa_bits) - 1)
    pattern = (field << layout.mantissa_bits) | (fraction >> spare)
    if has_subnormals(fmt, layout):
        shift = tl.minimum(tl.maximum(spare + 1 - field, 0), via.mantissa_bits + 1)
        pattern = tl.where(field < 1, (fraction | (1 << via.mantissa_bits)) >> shift, pattern)
    return tl.where(significand == 0, 0, pattern)
