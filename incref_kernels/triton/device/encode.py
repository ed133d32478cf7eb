"""Values to codes, by one rounding."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import pattern_of, value_of
from incref_kernels.triton.device.facts import (
    NAN_MAX,
    NAN_ZERO,
    NONSATURATE,
    SATURATE,
    SATURATE_FINITE,
    TOWARD_NEGATIVE,
    TOWARD_POSITIVE,
    TOWARD_ZERO,
    code_of_zero,
    encodes_in_hardware,
    greatest_pattern,
    hardware_type,
    has_code_for_nan,
    has_inf,
    is_float,
    is_unsigned,
    least_code,
    normalizes,
    rounds_by_addition,
    spare_bits,
)
from incref_kernels.triton.device.patterns import split
from incref_kernels.triton.device.rounding import round_shift

__all__ = ["encode_patterns"]


@triton.jit
def encode_patterns(
    signed: tl.tensor, random: tl.tensor, exponent: tl.tensor, layout: tl.constexpr, to: tl.constexpr
) -> tl.tensor:
    """Encode the values behind signed patterns, each divided by `2**exponent` exactly.

    Args:
        signed: patterns of `layout`, as two's-complement integers.
        random: random integers for stochastic rounding, or None.
        exponent: integers that broadcast against `signed`, or None for 0.
        layout: binary32 or binary64.
        to: an `Encoding`.

    Returns:
        The codes in the dtype of `signed`, and which elements are or become NaN.
    """
    if encodes_in_hardware(to, layout):
        code, is_nan = _encode_in_hardware(signed, exponent, layout, to)
    elif rounds_by_addition(to, layout):
        code, is_nan = _encode_by_addition(signed, exponent, layout, to)
    else:
        code, is_nan = _encode_by_shift(signed, random, exponent, layout, to)
    return code, is_nan


@triton.jit
def _encode_by_shift(
    signed: tl.tensor, random: tl.tensor, exponent: tl.tensor, layout: tl.constexpr, to: tl.constexpr
) -> tl.tensor:
    """Encode in integers alone, under any rounding and overflow."""
    sign_mask = signed >> (layout.bits - 1)
    magnitude = signed & (layout.sign_code - 1)
    significand, power = split(magnitude, layout, normalizes(to.fmt, layout, exponent is not None))
    if exponent is not None:
        # Infinity stays beyond every range, whatever it is divided by.
        power = tl.where(magnitude >= layout.inf_code, layout.emax + 1, power - exponent)
    if is_float(to.fmt):
        code, is_nan = _encode_float(magnitude, significand, power, sign_mask, random, layout, to)
    else:
        code, is_nan = _encode_int(magnitude, significand, power, sign_mask, random, layout, to)
    return code, is_nan


@triton.jit
def _scaled_magnitude(signed: tl.tensor, exponent: tl.tensor, layout: tl.constexpr) -> tl.tensor:
    """Patterns of magnitudes divided by `2**exponent`, the sign of each in all bits, and which are NaN."""
    magnitude = signed & (layout.sign_code - 1)
    sign_mask = signed >> (layout.bits - 1)
    is_nan = magnitude > layout.inf_code
    scaled = magnitude
    if exponent is not None:
        # Exact, or so far below the least positive value that it does not matter.
        inverse = tl.where(
            exponent > -layout.emin, 1 << (layout.mantissa_bits - 1), (layout.bias - exponent) << layout.mantissa_bits
        )
        scaled = pattern_of(value_of(magnitude) * value_of(inverse))
    return scaled, sign_mask, is_nan


@triton.jit
def _encode_in_hardware(signed: tl.tensor, exponent: tl.tensor, layout: tl.constexpr, to: tl.constexpr) -> tl.tensor:
    """Encode to nearest even, saturating, by the instruction of the device; it need not know the signs of NaNs."""
    fmt: tl.constexpr = to.fmt
    scaled, sign_mask, is_nan = _scaled_magnitude(signed, exponent, layout)
    eight: tl.constexpr = hardware_type(fmt, layout)
    code = value_of(scaled).to(eight).to(tl.uint8, bitcast=True).to(tl.int32)
    sign = sign_mask & fmt.sign_code
    code = tl.where(is_nan, fmt.nan_code, code)
    return code | sign, is_nan


@triton.jit
def _encode_by_addition(signed: tl.tensor, exponent: tl.tensor, layout: tl.constexpr, to: tl.constexpr) -> tl.tensor:
    """Encode to nearest even, saturating: the sum with a large power of two is rounded to the grid of the target.

    That rounding is the one of IEEE 754 addition, so the result is that of `_encode_by_shift`, in half the steps.
    """
    scaled, sign_mask, is_nan = _scaled_magnitude(signed, exponent, layout)
    if is_float(to.fmt):
        code = _add_float(scaled, sign_mask, is_nan, layout, to)
    else:
        code = _add_int(scaled, sign_mask, is_nan, layout, to)
    return code, is_nan


@triton.jit
def _add_float(
    scaled: tl.tensor, sign_mask: tl.tensor, is_nan: tl.tensor, layout: tl.constexpr, to: tl.constexpr
) -> tl.tensor:
    fmt: tl.constexpr = to.fmt
    width: tl.constexpr = layout.mantissa_bits
    # Rounding keeps the order, so the end of the range may come first. What is not a number is beyond it, too.
    limited = tl.minimum(scaled, greatest_pattern(fmt, layout))
    binade = tl.maximum(limited & layout.inf_code, (fmt.emin + layout.bias) << width)
    power = binade + ((width - fmt.mantissa_bits) << width)
    steps = pattern_of(value_of(limited) + value_of(power)) - power
    base = (binade >> (width - fmt.mantissa_bits)) - ((fmt.emin + layout.bias) << fmt.mantissa_bits)
    code = steps + base
    sign = sign_mask & fmt.sign_code
    if not has_code_for_nan(fmt):
        code = code | sign
        if to.nan == NAN_ZERO:
            code = tl.where(is_nan, 0, code)
    elif fmt.has_signed_nan:
        code = tl.where(is_nan, fmt.nan_code, code) | sign
    else:
        # There is one NaN, and no -0.
        code = tl.where(is_nan, fmt.nan_code, tl.where(code == 0, 0, code | sign))
    return code


@triton.jit
def _add_int(
    scaled: tl.tensor, sign_mask: tl.tensor, is_nan: tl.tensor, layout: tl.constexpr, to: tl.constexpr
) -> tl.tensor:
    fmt: tl.constexpr = to.fmt
    power: tl.constexpr = (layout.mantissa_bits - fmt.fraction_bits + layout.bias) << layout.mantissa_bits
    # Beyond the range on either side, with room for a sum that is exact but for its rounding.
    limited = tl.minimum(scaled, (fmt.bits - fmt.fraction_bits + layout.bias) << layout.mantissa_bits)
    power_at = power + (scaled ^ scaled)
    size = pattern_of(value_of(limited) + value_of(power_at)) - power
    code = tl.minimum(tl.maximum((size ^ sign_mask) - sign_mask, least_code(to)), fmt.max_code)
    if to.nan == NAN_ZERO:
        code = tl.where(is_nan, 0, code)
    return code


@triton.jit
def _encode_float(
    magnitude: tl.tensor,
    significand: tl.tensor,
    power: tl.tensor,
    sign_mask: tl.tensor,
    random: tl.tensor,
    layout: tl.constexpr,
    to: tl.constexpr,
) -> tl.tensor:
    fmt: tl.constexpr = to.fmt
    spare: tl.constexpr = spare_bits(fmt, layout)
    width: tl.constexpr = layout.mantissa_bits
    grid = tl.maximum(power, fmt.emin)
    # Where codes start at the smallest normal value, zero would be the one before the first: -1.
    base = ((grid - fmt.emin) << fmt.mantissa_bits) + code_of_zero(fmt)
    shift = grid - power + (width - fmt.mantissa_bits + spare)
    rounded = round_shift(significand << spare, shift, base, sign_mask, random, width + 1 + spare, to)
    code = tl.minimum(tl.maximum(rounded, 0), fmt.max_code)
    is_nan = magnitude > layout.inf_code
    # -0 is zero, so it is below the range of an unsigned format only where there is no zero.
    is_below = (rounded < 0) | ((sign_mask < 0) & (rounded > code_of_zero(fmt)))
    if is_unsigned(fmt):
        code = tl.where(is_below, 0, code)
    if to.overflow != SATURATE:
        escapes = magnitude == layout.inf_code
        if to.overflow == NONSATURATE:
            escapes = escapes | _overflows(rounded, sign_mask, to)
            if is_unsigned(fmt):
                escapes = escapes | is_below
        if has_inf(fmt):
            to_inf = escapes
            if is_unsigned(fmt):
                to_inf = to_inf & (is_below == 0)
            code = tl.where(to_inf, fmt.inf_code, code)
            escapes = escapes & (to_inf == 0)
        is_nan = is_nan | escapes
    sign = sign_mask & fmt.sign_code
    if not has_code_for_nan(fmt):
        code = _put_nan(code | sign, is_nan, sign | fmt.max_code, to)
    elif fmt.has_signed_nan:
        code = tl.where(is_nan, fmt.nan_code, code) | sign
    else:
        # There is one NaN, and no -0.
        code = tl.where(is_nan, fmt.nan_code, tl.where(code == 0, 0, code | sign))
    return code, is_nan


@triton.jit
def _overflows(rounded: tl.tensor, sign_mask: tl.tensor, to: tl.constexpr) -> tl.tensor:
    """Whether a finite value leaves the range: not where it is rounded toward zero (IEEE 754-2019, 7.4)."""
    is_beyond = rounded > to.fmt.max_code
    if to.rounding == TOWARD_ZERO:
        is_beyond = tl.zeros_like(is_beyond)
    elif to.rounding == TOWARD_POSITIVE:
        is_beyond = is_beyond & (sign_mask == 0)
    elif to.rounding == TOWARD_NEGATIVE:
        is_beyond = is_beyond & (sign_mask != 0)
    return is_beyond


@triton.jit
def _encode_int(
    magnitude: tl.tensor,
    significand: tl.tensor,
    power: tl.tensor,
    sign_mask: tl.tensor,
    random: tl.tensor,
    layout: tl.constexpr,
    to: tl.constexpr,
) -> tl.tensor:
    fmt: tl.constexpr = to.fmt
    width: tl.constexpr = layout.mantissa_bits
    # A shift below 1 would belong to a magnitude beyond 2**(width - 1), which is outside every range either way.
    shift = tl.maximum(width - fmt.fraction_bits - power, 1)
    size = round_shift(significand, shift, sign_mask ^ sign_mask, sign_mask, random, width + 1, to)
    rounded = (size ^ sign_mask) - sign_mask
    code = tl.minimum(tl.maximum(rounded, least_code(to)), fmt.max_code)
    is_nan = magnitude > layout.inf_code
    if to.overflow == SATURATE_FINITE:
        is_nan = is_nan | (magnitude == layout.inf_code)
    elif to.overflow == NONSATURATE:
        is_nan = is_nan | (rounded != code)
    largest = tl.where(sign_mask < 0, least_code(to) + (sign_mask ^ sign_mask), fmt.max_code)
    return _put_nan(code, is_nan, largest, to), is_nan


@triton.jit
def _put_nan(code: tl.tensor, is_nan: tl.tensor, largest: tl.tensor, to: tl.constexpr) -> tl.tensor:
    """Replace what should be NaN in a format that has none by what the rule says; `largest` has the sign of the NaN."""
    if to.nan == NAN_MAX:
        code = tl.where(is_nan, largest, code)
    elif to.nan == NAN_ZERO:
        code = tl.where(is_nan, 0, code)
    return code
