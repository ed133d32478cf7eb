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
def divide_by_scale(signed: tl.tensor, factor: tl.tensor, is_division: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
    """Pattern of `x / factor`, or of `x * factor`, rounded once.

    A NaN in x is the quotient, else a NaN in the factor; `0 / 0`, `Inf / Inf` and `0 * Inf` are NaN with sign bit 0.
    """
    x = value_of(signed)
    if is_division:
        quotient = divide(x, factor)
    else:
        quotient = x * factor
    new = tl.where(factor != factor, pattern_of(factor), layout.nan_code)  # noqa: PLR0124
    found = tl.where(quotient != quotient, new, pattern_of(quotient))  # noqa: PLR0124
    return tl.where(x != x, signed, found)  # noqa: PLR0124
