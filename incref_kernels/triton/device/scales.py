"""From the largest magnitude of a block to its scale."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import divide, pattern_of, value_of
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import RULE_DIVIDE, e8m0, scale_threshold, zero_point_encoding
from incref_kernels.triton.device.patterns import integer_pattern

__all__ = ["affine_scale", "extreme_scale", "float_scale", "power_scale", "scale_exponent"]


@triton.jit
def scale_exponent(amax: tl.tensor, layout: tl.constexpr, element: tl.constexpr, rule: tl.constexpr) -> tl.tensor:
    """Exponent of the power of two that `rule` gives, not yet clamped; see `incref.numerics.scales`.

    Args:
        amax: finite magnitude patterns.
        layout: the format of the patterns.
        element: the format of the elements.
        rule: one that gives powers of two.
    """
    width: tl.constexpr = layout.mantissa_bits
    # A subnormal is an integer times the least value: the float of that integer has the same fraction, normalized.
    is_subnormal = amax < (1 << width)
    carried = (1 << width) - scale_threshold(element, layout, rule)
    pattern = tl.where(is_subnormal, integer_pattern(amax, layout), amax) + carried
    power = (pattern >> width) - layout.bias + tl.where(is_subnormal, layout.emin - width, 0)
    return power - element.emax


@triton.jit
def float_scale(amax: tl.tensor, layout: tl.constexpr, limit: tl.constexpr, rule: tl.constexpr) -> tl.tensor:
    """Pattern of the scale that puts `amax` on `limit`; see `incref.numerics.scales`.

    Args:
        amax: patterns without sign bit.
        layout: their format.
        limit: a number that `layout` holds.
        rule: DIVIDE or RECIPROCAL.
    """
    if rule == RULE_DIVIDE:
        scale = divide(value_of(amax), limit)
    else:
        scale = value_of(amax)
        scale = scale * divide(tl.full([], 1.0, scale.dtype), limit)
    # Patterns of numbers that are not negative are ordered as those.
    pattern = tl.maximum(pattern_of(scale), 1 << layout.mantissa_bits)
    pattern = tl.where(amax < layout.inf_code, pattern, layout.nan_code)
    return tl.where(amax == 0, layout.bias << layout.mantissa_bits, pattern)


@triton.jit
def power_scale(amax: tl.tensor, layout: tl.constexpr, element: tl.constexpr, rule: tl.constexpr) -> tl.tensor:
    """Code in E8M0 of the power of two that `rule` gives; that of NaN for a block with NaN or Inf."""
    scale: tl.constexpr = e8m0()
    exponent = scale_exponent(amax, layout, element, rule)
    exponent = tl.minimum(tl.maximum(exponent, scale.emin), scale.emax)
    return tl.where(amax >= layout.inf_code, scale.nan_code, exponent + scale.bias)


@triton.jit
def extreme_scale(
    above: tl.tensor, below: tl.tensor, layout: tl.constexpr, limit: tl.constexpr, rule: tl.constexpr
) -> tl.tensor:
    """Pattern of the scale that puts the extreme on `-limit`: negative where the extreme is `above`."""
    pattern = float_scale(tl.maximum(above, below), layout, limit, rule)
    return tl.where((above > below) & (pattern < layout.inf_code), pattern | -layout.sign_code, pattern)


@triton.jit
def affine_scale(
    above: tl.tensor, below: tl.tensor, layout: tl.constexpr, fmt: tl.constexpr, rule: tl.constexpr
) -> tl.tensor:
    """Pattern of the scale, and the zero point, that put `[-below, above]` on the codes of `fmt`."""
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
    return pattern, tl.minimum(tl.maximum(zero, fmt.min_code), fmt.max_code)
