"""Division of values by their scales, correctly rounded."""

import triton
import triton.language as tl

__all__ = ["divide", "divide_by_scale", "pattern_of", "value_of"]


@triton.jit
def value_of(pattern: tl.tensor) -> tl.tensor:
    """Float of a pattern."""
    if pattern.dtype == tl.int64:
        value = pattern.to(tl.float64, bitcast=True)
    else:
        value = pattern.to(tl.float32, bitcast=True)
    return value


@triton.jit
def pattern_of(value: tl.tensor) -> tl.tensor:
    """Pattern of a float."""
    if value.dtype == tl.float64:
        pattern = value.to(tl.int64, bitcast=True)
    else:
        pattern = value.to(tl.int32, bitcast=True)
    return pattern


@triton.jit
def divide(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """Compute `x / y`, correctly rounded."""
    if x.dtype == tl.float64:
        quotient = x / y
    else:
        # The operator itself is an approximation on NVIDIA's GPUs.
        quotient = tl.math.div_rn(x, y)
    return quotient


@triton.jit
def divide_by_scale(
    signed: tl.tensor, factor: tl.tensor, is_division: tl.constexpr, layout: tl.constexpr, is_shared: tl.constexpr
) -> tl.tensor:
    """Pattern of `x / factor`, or of `x * factor`, rounded once.

    A NaN in x is the quotient, else a NaN in the factor; `0 / 0`, `Inf / Inf` and `0 * Inf` are NaN with sign bit 0.

    Args:
        signed: patterns of x.
        factor: what broadcasts against it.
        is_division: whether x is divided.
        layout: of x.
        is_shared: whether many elements have a factor, and a quotient below `2**-64` or beyond `2**64` need be no more
            than that, with its sign.
    """
    x = value_of(signed)
    if is_division and is_shared:
        quotient = _divide_by_shared(x, factor, layout)
    elif is_division:
        quotient = divide(x, factor)
    else:
        quotient = x * factor
    new = tl.where(factor != factor, pattern_of(factor), layout.nan_code)  # noqa: PLR0124
    found = tl.where(quotient != quotient, new, pattern_of(quotient))  # noqa: PLR0124
    return tl.where(x != x, signed, found)  # noqa: PLR0124


@triton.jit
def _divide_by_shared(x: tl.tensor, factor: tl.tensor, layout: tl.constexpr) -> tl.tensor:
    """Compute `x / factor` in binary32 in six steps an element; the rest is done once a factor.

    The factor is `significand / power` with a power of two, so `scaled = x * power` is exact unless it is tiny or
    overflows. `inverse + rest` is the reciprocal of the significand to 2**-47, so `near` is within 0.501 ulp of the
    quotient. Its remainder is exact if `|scaled| >= 2**-100`, and `inverse` is rounded to nearest: so the last step
    rounds the quotient correctly (P. W. Markstein, IBM Journal of Research and Development 34, 1990, 111 to 119). Any
    smaller quotient is below 2**-77, and comes out below 2**-64.
    """
    pattern = pattern_of(factor)
    field = (pattern >> layout.mantissa_bits) & (2 * layout.bias + 1)
    sign = pattern & -layout.sign_code
    # 2**(bias - field): below the normal numbers for the greatest factors, one step below where subnormals need more.
    step: tl.constexpr = 1 << layout.mantissa_bits
    power = tl.where(field == 2 * layout.bias, step >> 1, (2 * layout.bias - tl.maximum(field, 1)) * step)
    significand = tl.abs(factor) * value_of(power)
    is_number = (significand > 0) & (significand < 2.0)
    significand = tl.where(is_number, significand, 1.0)
    # By 0 everything is infinite, by infinity 0, by NaN NaN.
    power = tl.where(factor == 0, layout.inf_code, power)
    power = tl.where(tl.abs(factor) == float("inf"), 0, power)
    power = tl.where(factor != factor, layout.nan_code, power)  # noqa: PLR0124
    inverse = divide(significand * 0 + 1, significand)
    rest = tl.fma(-inverse, significand, 1.0) * inverse
    scaled = x * value_of(power | sign)
    near = tl.fma(scaled, inverse, scaled * rest)
    quotient = tl.fma(tl.fma(-near, significand, scaled), inverse, near)
    # Sums lose the sign of 0; the remainder of infinity is NaN. What overflows only here was large before.
    signed = (pattern_of(quotient) & (layout.sign_code - 1)) | (pattern_of(scaled) & -layout.sign_code)
    return tl.where(tl.abs(near) < float("inf"), value_of(signed), scaled)
