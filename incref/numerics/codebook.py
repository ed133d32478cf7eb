"""Values to the codes of a codebook, by comparison with exact boundaries."""

from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref.formats import CodebookFormat, FloatFormat, Overflow, Rounding
from incref.numerics.patterns import Patterns

__all__ = ["codebook_codes"]


def codebook_codes(
    source: Patterns, fmt: CodebookFormat, *, rounding: Rounding, overflow: Overflow
) -> tuple[Tensor, Tensor]:
    """Find the code of every value, and which values escape to NaN under `overflow`.

    Patterns are compared as integers in the order of their values, against the least pattern of each code.

    Raises:
        UnsupportedError: for stochastic rounding, whose probabilities no pattern holds exactly for uneven values.
    """
    if rounding is Rounding.STOCHASTIC:
        raise UnsupportedError(
            f"{fmt.name} has uneven steps; stochastic rounding is defined for float and integer formats"
        )
    key = torch.where(source.signed < 0, -source.magnitude, source.magnitude)
    bounds = torch.tensor(_boundaries(fmt, source.layout, rounding), dtype=key.dtype, device=key.device)
    code = torch.bucketize(key.contiguous(), bounds, right=True).to(key.dtype)
    match overflow:
        case Overflow.SATURATE:
            escapes = torch.zeros_like(key, dtype=torch.bool)
        case Overflow.SATURATE_FINITE:
            escapes = source.magnitude == source.inf
        case Overflow.NONSATURATE:
            least = _least_key(Fraction(fmt.qmin), source.layout, is_strict=False)
            most = _least_key(Fraction(fmt.qmax), source.layout, is_strict=True) - 1
            escapes = (key < least) | (key > most)
    return code, escapes


@cache
def _boundaries(fmt: CodebookFormat, layout: FloatFormat, rounding: Rounding) -> tuple[int, ...]:
    """Least key that code i + 1 is for, for every i."""
    bounds = []
    for i, (low, high) in enumerate(zip(fmt.values, fmt.values[1:], strict=False)):
        lo, hi = Fraction(low), Fraction(high)
        middle = (lo + hi) / 2
        match rounding:
            case Rounding.NEAREST_EVEN:
                bound, is_strict = middle, i % 2 == 0
            case Rounding.NEAREST_AWAY:
                bound, is_strict = middle, middle < 0
            case Rounding.TOWARD_ZERO:
                bound, is_strict = (lo, True) if hi <= 0 else (hi, False)
            case Rounding.TOWARD_POSITIVE:
                bound, is_strict = lo, True
            case _:
                bound, is_strict = hi, False
        bounds.append(_least_key(bound, layout, is_strict=is_strict))
    return tuple(bounds)


def _least_key(value: Fraction, layout: FloatFormat, *, is_strict: bool) -> int:
    """Least key of `layout` whose value is at least (or, if strict, greater than) `value`, which is 0 or a normal."""
    size = abs(value)
    if size == 0:
        return int(is_strict)
    power = size.numerator.bit_length() - size.denominator.bit_length()
    power -= size < Fraction(2) ** power
    steps = (size / Fraction(2) ** power - 1) * (1 << layout.mantissa_bits)
    below = ((power + layout.bias) << layout.mantissa_bits) + int(steps)
    is_exact = steps.denominator == 1
    if value < 0:
        return -below + (is_exact and is_strict)
    return below + (is_strict or not is_exact)
