"""Rounding of a significand to an integer, in integers."""

import torch
from torch import Tensor

from incref.formats import Rounding

__all__ = ["RANDOM_WIDTHS", "require_random_bits", "round_shift"]

RANDOM_WIDTHS: dict[torch.dtype, int] = {torch.uint8: 8, torch.int16: 16, torch.int32: 32}
"""Dtypes of random bits, and how many bits an element holds."""


def require_random_bits(x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> None:
    """Check that random bits are there, one for each element of `x`, if `rounding` is stochastic, and only then.

    Raises:
        ValueError: if they are missing, not wanted, or of another shape.
        TypeError: if their dtype is not uint8, int16 or int32.
    """
    if rounding is not Rounding.STOCHASTIC:
        if random_bits is not None:
            raise ValueError(f"random_bits go with Rounding.STOCHASTIC only, got them with {rounding}")
        return
    if random_bits is None:
        raise ValueError("stochastic rounding needs random_bits, one integer for each element of x, got None")
    if random_bits.dtype not in RANDOM_WIDTHS:
        allowed = ", ".join(str(dtype) for dtype in RANDOM_WIDTHS)
        raise TypeError(f"random_bits must be one of {allowed}, got {random_bits.dtype}")
    if random_bits.shape != x.shape:
        raise ValueError(f"random_bits must have the shape of x, {tuple(x.shape)}, got {tuple(random_bits.shape)}")


def round_shift(
    significand: Tensor,
    shift: Tensor,
    base: Tensor | int,
    sign_mask: Tensor,
    *,
    width: int,
    rounding: Rounding,
    random_bits: Tensor | None,
) -> Tensor:
    """Compute `base + significand / 2**shift`, rounded to an integer once.

    Args:
        significand: integers from 0 to `2**width - 1`.
        shift: integers of at least 1, of the dtype of `significand`.
        base: integers that the quotient is added to; a tie goes to the even sum.
        sign_mask: -1 where the number that is rounded is negative, else 0; directed modes ask.
        width: how many bits a significand has at most.
        rounding: any mode.
        random_bits: for STOCHASTIC only: uint8, int16 or int32, one for each element.
    """
    if rounding is Rounding.STOCHASTIC:
        assert random_bits is not None
        return _stochastic(significand, shift, width=width, random_bits=random_bits) + base
    # From width + 1 on, every quotient is below one half, so larger shifts round alike.
    shift = shift.clamp(max=width + 1)
    quotient = significand >> shift
    if rounding is Rounding.TOWARD_ZERO:
        return quotient + base
    one = torch.ones((), dtype=significand.dtype, device=significand.device)
    match rounding:
        case Rounding.NEAREST_EVEN:
            # Just below one half, so that a tie needs the one that an odd sum adds.
            increment = (one << (shift - 1)) - 1 + ((quotient + base) & 1)
        case Rounding.NEAREST_AWAY:
            increment = one << (shift - 1)
        case Rounding.TOWARD_POSITIVE:
            increment = ((one << shift) - 1) & ~sign_mask
        case Rounding.TOWARD_NEGATIVE:
            increment = ((one << shift) - 1) & sign_mask
    return ((significand + increment) >> shift) + base


def _stochastic(significand: Tensor, shift: Tensor, *, width: int, random_bits: Tensor) -> Tensor:
    n = RANDOM_WIDTHS[random_bits.dtype]
    # From width + n on, floor(f * 2**n) is 0 and so is the quotient: larger shifts round alike.
    shift = shift.to(torch.int64).clamp(max=width + n)
    wide = significand.to(torch.int64)
    low = shift.clamp(max=62)
    quotient = wide >> low
    rest = wide - (quotient << low)
    fraction = torch.where(shift >= n, rest >> (shift - n).clamp(0, 62), rest << (n - shift).clamp(min=0))
    random = random_bits.to(torch.int64) & ((1 << n) - 1)
    return (quotient + (fraction + random >= 1 << n)).to(significand.dtype)
