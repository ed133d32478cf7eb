"""Powers of two in float64, from bit patterns, and roundings to a grid of them: exact on every device."""

import torch
from torch import Tensor

from incref.formats import FORMATS, FloatFormat, Rounding

__all__ = ["add_rounded_once", "last_bit_of", "power_of", "round_result", "round_units"]


def _binary64() -> FloatFormat:
    fmt = FORMATS["float64"]
    assert isinstance(fmt, FloatFormat)
    return fmt


_FLOAT64 = _binary64()
_EXPONENT_FIELD = ((1 << _FLOAT64.exponent_bits) - 1) << _FLOAT64.mantissa_bits


def power_of(x: Tensor) -> Tensor:
    """`2**floor(log2(abs(x)))` of float64 values that are normal, Inf or NaN (Inf for these); 0 for 0."""
    return (x.view(torch.int64) & _EXPONENT_FIELD).view(torch.float64)


def last_bit_of(x: Tensor) -> Tensor:
    """The greatest power of two that float64 values, normal or 0, are multiples of; Inf for 0."""
    bits = _FLOAT64.mantissa_bits
    significand = (x.view(torch.int64) & ((1 << bits) - 1)) | (1 << bits)
    last = power_of(x) * (significand & -significand).to(torch.float64) * 2.0**-bits
    return torch.where(x == 0, torch.inf, last)


def round_units(x: Tensor, rounding: Rounding) -> Tensor:
    """Round float64 values to integers, in place."""
    if rounding is Rounding.TOWARD_ZERO:
        return x.trunc_()
    return x.floor_() if rounding is Rounding.TOWARD_NEGATIVE else x.round_()


def round_result(x: Tensor, bits: int, rounding: Rounding, *, flushes: bool) -> Tensor:
    """Round float64 values to `bits` fraction bits and the exponents of float32; zeros become +0.

    Args:
        x: exact sums.
        bits: at most 23; below the normal numbers of float32 the grid is that of the smallest of them.
        rounding: TOWARD_ZERO, TOWARD_NEGATIVE or NEAREST_EVEN.
        flushes: whether a rounded value below the normal numbers becomes 0.

    Returns:
        float64; what is beyond float32 after rounding is Inf.
    """
    smallest = torch.finfo(torch.float32).tiny
    step = power_of(x).clamp_(min=smallest).mul_(2.0**-bits)
    rounded = round_units(x / step, rounding).mul_(step)
    if flushes:
        rounded = torch.where(rounded.abs() < smallest, 0.0, rounded)
    return rounded.to(torch.float32).to(torch.float64).add_(0.0)


def add_rounded_once(x: Tensor, y: Tensor) -> Tensor:
    """`RN(x + y)` in float32, of float64 values whose sum float64 may not hold.

    The sum is rounded to odd in float64, which has more than two bits beyond float32, so that the second rounding does
    what one alone would (Boldo, Melquiond: Emulation of FMA, 2008).
    """
    total = x + y
    part = total - x
    rest = (x - (total - part)) + (y - part)
    pattern = total.view(torch.int64)
    is_inexact = (rest != 0) & rest.isfinite() & (pattern & 1 == 0)
    # One step toward the exact sum: away from zero where the rest has the sign of the sum.
    step = torch.where((rest > 0) == (total > 0), 1, -1)
    return torch.where(is_inexact, pattern + step, pattern).view(torch.float64).to(torch.float32)
