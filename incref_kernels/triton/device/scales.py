"""From the largest magnitude of a block to its scale."""

import triton
import triton.language as tl

from incref_kernels.triton.device.divide import divide, pattern_of, value_of
from incref_kernels.triton.device.facts import RULE_DIVIDE, scale_threshold
from incref_kernels.triton.device.patterns import integer_pattern

__all__ = ["float_scale", "scale_exponent"]


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
