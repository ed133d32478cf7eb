"""Quotients and products of whole tensors, rounded once, in integer arithmetic: what the oracle computes in fractions.

Significands are integers of at most 24 bits here, so an exact product and a quotient with three bits to spare fit 64.
"""

import torch
from torch import Tensor

from incref.formats import FloatFormat, Rounding

__all__ = ["round_to_integer", "rounded_product", "rounded_quotient"]

_SIGNIFICANT_BITS = 24
"""Of float32, the widest format that operands may have."""

_SPARE_BITS = 3
"""A quotient may have one bit less than its numerator was shifted by; two are for rounding."""


def rounded_quotient(x: Tensor, by: Tensor, fmt: FloatFormat) -> Tensor:
    """Divide, as `round_to(divide(x, by), fmt)` of the oracle does.

    Args:
        x: float64 that holds values of float32 or of a narrower format.
        by: likewise, of a shape that `x` broadcasts with.
        fmt: an IEEE format of at most 24 significant bits.

    Returns:
        float64 with values of `fmt`.
    """
    (over, over_exponent), (under, under_exponent) = _parts(x), _parts(by)
    shift = fmt.mantissa_bits + 1 + _SPARE_BITS
    over, divisor = over << shift, under.clamp(min=1)
    whole = torch.div(over, divisor, rounding_mode="floor")
    is_cut = over != whole * divisor
    magnitude = _round(whole, over_exponent - under_exponent - shift, is_cut, fmt)
    return _signed(magnitude, x / by, x, by)


def rounded_product(x: Tensor, by: Tensor, fmt: FloatFormat) -> Tensor:
    """Multiply, as `round_to(multiply(x, by), fmt)` of the oracle does; otherwise as `rounded_quotient`."""
    (left, left_exponent), (right, right_exponent) = _parts(x), _parts(by)
    whole, exponent = left * right, left_exponent + right_exponent
    magnitude = _round(whole, exponent, torch.zeros_like(whole, dtype=torch.bool), fmt)
    return _signed(magnitude, x * by, x, by)


def round_to_integer(x: Tensor, rounding: Rounding) -> Tensor:
    """Round finite float64 of a magnitude below 2**52 to whole numbers; every step is exact.

    Raises:
        ValueError: if the rounding is stochastic.
    """
    below = x.floor()
    part = x - below
    match rounding:
        case Rounding.NEAREST_EVEN:
            goes_up = (part > 0.5) | ((part == 0.5) & (below % 2 == 1))
        case Rounding.NEAREST_AWAY:
            goes_up = (part > 0.5) | ((part == 0.5) & (x > 0))
        case Rounding.TOWARD_ZERO:
            goes_up = (part > 0) & (x < 0)
        case Rounding.TOWARD_POSITIVE:
            goes_up = part > 0
        case Rounding.TOWARD_NEGATIVE:
            goes_up = torch.zeros_like(part, dtype=torch.bool)
        case Rounding.STOCHASTIC:
            raise ValueError("stochastic rounding needs random bits, and is not done for whole tensors")
    return below + goes_up.to(torch.float64)


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Significand and exponent of `abs(x) = significand * 2**exponent`; of a special value, what goes unused."""
    mantissa, exponent = torch.frexp(torch.where(_is_special(x), 1.0, x.abs()))
    significand = (mantissa * float(1 << _SIGNIFICANT_BITS)).to(torch.int64)
    return significand, exponent.to(torch.int64) - _SIGNIFICANT_BITS


def _is_special(x: Tensor) -> Tensor:
    return ~x.isfinite() | (x == 0)


def _round(whole: Tensor, exponent: Tensor, is_cut: Tensor, fmt: FloatFormat) -> Tensor:
    """Round `whole * 2**exponent`, and a bit more of it where something was cut off, to nearest even."""
    bits = torch.frexp(whole.to(torch.float64)).exponent.to(torch.int64)
    least = 1 - fmt.bias - fmt.mantissa_bits
    drop = ((exponent + bits - fmt.mantissa_bits - 1).clamp(min=least) - exponent).clamp(min=0)
    # What is shifted further than all its bits is less than half of a unit.
    drop = torch.minimum(drop, bits + 2)
    kept, rest, half = whole >> drop, whole & ((1 << drop) - 1), (1 << drop) >> 1
    is_above = (rest > half) | ((rest == half) & is_cut & (drop > 0))
    is_tie = (rest == half) & ~is_cut & (drop > 0)
    kept = kept + (is_above | (is_tie & (kept % 2 == 1))).to(torch.int64)
    value = kept.to(torch.float64) * _power_of_two(exponent + drop)
    return torch.where(value >= 2.0 ** (fmt.bias + 1), torch.inf, value)


def _power_of_two(exponent: Tensor) -> Tensor:
    """A normal float64, from its exponent field."""
    return ((exponent + 1023) << 52).view(torch.float64)


def _signed(magnitude: Tensor, plain: Tensor, x: Tensor, by: Tensor) -> Tensor:
    """Take the sign, and zeros, Inf and NaN, which are exact, from what the machine computes."""
    result = torch.where(_is_special(x) | _is_special(by), plain, magnitude.copysign(plain))
    # The oracle's NaN is the first operand that is one, or a new one that is positive; machines differ.
    result = torch.where(result.isnan(), torch.nan, result)
    return torch.where(x.isnan(), x, torch.where(by.isnan(), by, result))
