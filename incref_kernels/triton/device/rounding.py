"""Rounding of a significand to an integer."""

import triton
import triton.language as tl

from incref_kernels.triton.device.facts import (
    NEAREST_AWAY,
    NEAREST_EVEN,
    STOCHASTIC,
    TOWARD_NEGATIVE,
    TOWARD_POSITIVE,
    TOWARD_ZERO,
)

__all__ = ["round_shift"]


@triton.jit
def round_shift(
    significand: tl.tensor,
    shift: tl.tensor,
    base: tl.tensor,
    sign_mask: tl.tensor,
    random: tl.tensor,
    width: tl.constexpr,
    to: tl.constexpr,
) -> tl.tensor:
    """Compute `base + significand / 2**shift`, rounded to an integer once; see `incref.numerics.rounding`."""
    if to.rounding == STOCHASTIC:
        rounded = _stochastic(significand, shift, random, width) + base
    else:
        # From width + 1 on, every quotient is below one half, so larger shifts round alike.
        shift = tl.minimum(shift, width + 1)
        quotient = significand >> shift
        if to.rounding == NEAREST_EVEN:
            # Just below one half, so that a tie needs the one that an odd sum adds.
            increment = (1 << (shift - 1)) - 1 + ((quotient + base) & 1)
            rounded = ((significand + increment) >> shift) + base
        elif to.rounding == NEAREST_AWAY:
            rounded = ((significand + (1 << (shift - 1))) >> shift) + base
        elif to.rounding == TOWARD_POSITIVE:
            rounded = ((significand + (((1 << shift) - 1) & ~sign_mask)) >> shift) + base
        elif to.rounding == TOWARD_NEGATIVE:
            rounded = ((significand + (((1 << shift) - 1) & sign_mask)) >> shift) + base
        else:
            tl.static_assert(to.rounding == TOWARD_ZERO)
            rounded = quotient + base
    return rounded


@triton.jit
def _stochastic(significand: tl.tensor, shift: tl.tensor, random: tl.tensor, width: tl.constexpr) -> tl.tensor:
    bits: tl.constexpr = random.dtype.primitive_bitwidth
    # From width + bits on, floor(f * 2**bits) is 0 and so is the quotient: larger shifts round alike.
    shift = tl.minimum(shift.to(tl.int64), width + bits)
    wide = significand.to(tl.int64)
    low = tl.minimum(shift, 62)
    quotient = wide >> low
    rest = wide - (quotient << low)
    down = rest >> tl.minimum(tl.maximum(shift - bits, 0), 62)
    fraction = tl.where(shift >= bits, down, rest << tl.maximum(bits - shift, 0))
    drawn = random.to(tl.int64) & ((1 << bits) - 1)
    return (quotient + ((fraction + drawn) >> bits)).to(significand.dtype)
