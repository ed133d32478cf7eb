"""Compares results with what is right: bit for bit, or with the ends of an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

import torch
from torch import Tensor

from incref.conformance.allowed import Interval
from incref.conformance.judge import bits_of

__all__ = ["Kind", "Mismatch", "as_results", "compare_bits", "compare_bound"]

_MOST_PLACES = 4096


class Kind(Enum):
    """In which way a result is wrong, as far as one element shows."""

    ZERO_SIGN = "zero_sign"
    """A zero of the other sign."""
    NAN = "nan"
    """A NaN where there is none, or none where there is one."""
    INFINITY = "infinity"
    """An Inf where there is none, or none where there is one."""
    NEIGHBOUR = "neighbour"
    """The next value or code, up or down."""
    FACTOR_TWO = "factor_two"
    """Twice or half of what is right."""
    SIGN = "sign"
    """The right magnitude with the other sign."""
    ZERO = "zero"
    """Zero for something else."""
    BEYOND_BOUND = "beyond_bound"
    """Outside the interval that the declared accumulator allows."""
    OTHER = "other"
    """None of these."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """What is wrong with one result.

    Attributes:
        result: which one of several, from 0.
        count: how many elements are wrong.
        total: how many there are.
        shape: of the result.
        places: where the first of them are.
        kinds: how many of each kind there are among these places.
        got: what came at the first place.
        want: what is right there.
        got_bits: its pattern in hexadecimal.
        want_bits: likewise.
        steps: for each of the places, how many values of the dtype lie between; for a bound, beyond its end.
        shares: for a bound, the error at each of the places as a multiple of what is allowed there; Inf if nothing is.
        also: what is wrong with the next result that is wrong too, such as the scales that codes belong to.
    """

    result: int
    count: int
    total: int
    shape: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    kinds: dict[Kind, int]
    got: str
    want: str
    got_bits: str
    want_bits: str
    steps: tuple[int, ...]
    shares: tuple[float, ...] = ()
    also: "Mismatch | None" = None


def as_results(found: object) -> tuple[Tensor, ...]:
    """Read what an operation returned as a tuple of tensors.

    Raises:
        TypeError: if it is not one.
    """
    results = (found,) if isinstance(found, Tensor) else tuple(found) if isinstance(found, list | tuple) else ()
    if not results or not all(isinstance(one, Tensor) for one in results):
        raise TypeError(f"an operation returns a tensor or a tuple of tensors, got {type(found).__name__}")
    return results


def compare_bits(got: Sequence[Tensor], want: Sequence[Tensor]) -> Mismatch | str | None:
    """Compare results bit for bit; signs of zeros count, signs and payloads of NaNs don't.

    Returns:
        None if they are the same, what is wrong if not: in words if it is their number, dtype or shape.

    Raises:
        ValueError: if there is no result that would be right; a comparison with nothing shows nothing.
    """
    if not want:
        raise ValueError("there are no right results to compare with")
    if len(got) != len(want):
        return f"{len(want)} results are right, got {len(got)}"
    found: list[Mismatch] = []
    for number, (one, right) in enumerate(zip(got, want, strict=True)):
        if one.dtype is not right.dtype or one.shape != right.shape:
            return f"result {number} must be {right.dtype} {tuple(right.shape)}, got {one.dtype} {tuple(one.shape)}"
        differs = bits_of(one) != bits_of(right)
        if one.is_floating_point():
            differs &= ~(one.isnan() & right.isnan())
        if bool(differs.any()):
            found.append(_describe(number, one, right, differs))
    return replace(found[0], also=found[1] if len(found) > 1 else None) if found else None


def compare_bound(got: Sequence[Tensor], want: Tensor, allowed: Interval) -> Mismatch | str | None:
    """Compare one result with the interval that is allowed; a NaN is never in it.

    Args:
        got: the results, of which there must be one.
        want: the exact result, rounded, for the description.
        allowed: an interval for every element.

    Raises:
        ValueError: if every interval is without an end; a bound that allows all shows nothing.
    """
    if len(got) != 1 or got[0].dtype is not want.dtype or got[0].shape != want.shape:
        return f"one result of {want.dtype} {tuple(want.shape)} is right, got {[tuple(one.shape) for one in got]}"
    low, high = allowed.low, allowed.high
    if low.shape != want.shape or low.dtype is not want.dtype:
        raise ValueError(f"the interval must be {want.dtype} {tuple(want.shape)}, got {low.dtype} {tuple(low.shape)}")
    if want.numel() and not bool((low.isfinite() & high.isfinite()).any()):
        raise ValueError("the bound allows every value of every element, so it shows nothing")
    one = got[0]
    differs = ~((one >= low) & (one <= high))
    if not bool(differs.any()):
        return None
    nearest = torch.where(one > high, high, low)
    # Where an accumulator is declared in full, one number is allowed, and what is wrong with another can be said.
    found = _describe(0, one, nearest, differs, None if torch.equal(low, high) else Kind.BEYOND_BOUND)
    middle, half = (low.double() + high.double()) / 2, (high.double() - low.double()) / 2
    shares = ((one.double() - middle).abs() / half)[differs]
    return replace(found, shares=tuple(shares[: len(found.places)].tolist()))


def _describe(number: int, got: Tensor, want: Tensor, differs: Tensor, kind: Kind | None = None) -> Mismatch:
    places = differs.nonzero()[:_MOST_PLACES]
    index = tuple(places.T) if got.ndim else ()
    ones, rights = (got[index], want[index]) if got.ndim else (got.view(1), want.view(1))
    steps = _ordinals(ones) - _ordinals(rights)
    kinds: dict[Kind, int] = {}
    pairs = list(zip(ones.tolist(), rights.tolist(), steps.tolist(), strict=True))
    for a, b, step in pairs:
        found = kind or _kind(a, b, step)
        kinds[found] = kinds.get(found, 0) + 1
    return Mismatch(
        result=number,
        count=int(differs.sum()),
        total=got.numel(),
        shape=tuple(got.shape),
        places=tuple(tuple(place) for place in places.tolist()),
        kinds=kinds,
        got=_text(pairs[0][0]),
        want=_text(pairs[0][1]),
        got_bits=_pattern(ones),
        want_bits=_pattern(rights),
        steps=tuple(steps.tolist()),
    )


def _kind(got: float, want: float, step: int) -> Kind:
    rules = (
        (Kind.NAN, math.isnan(got) != math.isnan(want)),
        (Kind.ZERO_SIGN, got == want),
        (Kind.INFINITY, math.isinf(got) != math.isinf(want)),
        (Kind.ZERO, got == 0),
        (Kind.SIGN, got == -want),
        (Kind.NEIGHBOUR, abs(step) == 1),
        (Kind.FACTOR_TWO, got in (2 * want, want / 2)),
    )
    return next((kind for kind, holds in rules if holds), Kind.OTHER)


def _ordinals(x: Tensor) -> Tensor:
    """Number the values of a dtype in their order, int64; neighbours differ by one and both zeros are 0."""
    bits = bits_of(x).to(torch.int64)
    if not x.is_floating_point():
        return bits
    least = -(1 << (8 * x.itemsize - 1))
    return torch.where(bits < 0, least - bits, bits)


def _text(value: float) -> str:
    """A number as what it is exactly: an integer as such, a float in hexadecimal and as a fraction."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    exact = Fraction(value)
    return f"{value.hex()} = {exact}" if len(str(exact)) <= 40 else value.hex()


def _pattern(x: Tensor) -> str:
    width = 2 * x.itemsize
    return f"0x{int(bits_of(x)[0]) & ((1 << (4 * width)) - 1):0{width}x}"
