"""Measures the accumulator of a matrix product from outside, by sums of powers of two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.conformance.implementation import Candidate
from incref.conformance.product_sums import Sums, sums_of
from incref.conformance.summation_tree import describe_tree, summation_tree
from incref.formats import Rounding

__all__ = ["MOST_BITS", "Measured", "probe_accumulator"]

MOST_BITS = 25
"""No more are asked for."""
_LENGTH = 256
_IN_ORDER = 32
_MASK, _APART = 26, 40
"""Exponents of a mask, and of it in units: so far apart that float32 loses `_IN_ORDER` units, where products are."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was seen of an accumulator.

    Attributes:
        bits: fraction bits that a sum keeps below its first, between neighbours along K.
        rounding: what becomes of bits below these; None if it is none of nearest even, toward zero and down.
        group: how many neighbours are aligned to the largest of them before they are added; 1 if they are added one by
            one.
        order: in which so many neighbours are added that the formats tell them apart, in words; "" if it is that of no
            tree, such as where a unit cuts off.
    """

    bits: int
    rounding: Rounding | None
    group: int
    order: str = ""


def probe_accumulator(candidate: Candidate, fmt: str | None = None, *, length: int = _LENGTH) -> Measured:
    """Measure the accumulator of a product in floating point.

    Args:
        candidate: called with factors whose products are powers of two.
        fmt: of the factors, as for `sums_of`.
        length: K.

    Raises:
        ValueError: for another operation or a format of few exponents, or if no sum of two terms is exact.
    """
    sums = sums_of(candidate, fmt)
    # The largest terms that are asked for have to be products.
    unit = 2.0 ** min(0, sums.largest - MOST_BITS - 2)
    if unit < 2.0 ** (sums.smallest + 1):
        raise ValueError(f"products of {sums.fmt} have too few exponents to be lost in a sum; probe another format")

    def add(terms: Sequence[tuple[int, float]]) -> float:
        row = torch.zeros(1, length)
        for place, value in terms:
            row[0, place] = value * unit
        return float(sums.of_powers(row)[0]) / unit

    held = [bits for bits in range(1, MOST_BITS + 1) if add([(0, 2.0**bits), (1, 1.0), (2, -(2.0**bits))]) == 1.0]
    if not held or held != list(range(1, len(held) + 1)):
        raise ValueError(f"1 should be left of 2**n + 1 - 2**n up to some n, and is for n in {held}")
    bits = len(held)
    order = _order(sums)
    return Measured(bits=bits, rounding=_rounding(add, bits), group=_group(add, bits, length), order=order)


def _rounding(add: Callable[[Sequence[tuple[int, float]]], float], bits: int) -> Rounding | None:
    """Look at three quarters of the last place, with either sign, and at a half of it."""
    top = 2.0**bits

    def left(part: float, sign: float) -> float:
        terms = [(0, sign * top), (1, sign * part), (2, -sign * top)]
        return sign * add(terms)

    seen = (left(0.5, 1.0), left(0.5, -1.0), _three_quarters(add, top, 1.0), _three_quarters(add, top, -1.0))
    return {
        (0.0, 0.0, 1.0, 1.0): Rounding.NEAREST_EVEN,
        (0.0, 0.0, 0.0, 0.0): Rounding.TOWARD_ZERO,
        (0.0, 1.0, 0.0, 1.0): Rounding.TOWARD_NEGATIVE,
    }.get(seen)


def _three_quarters(add: Callable[[Sequence[tuple[int, float]]], float], top: float, sign: float) -> float:
    return sign * add([(0, sign * top), (1, sign * 0.75), (2, -sign * top)])


def _group(add: Callable[[Sequence[tuple[int, float]]], float], bits: int, length: int) -> int:
    """`2**n - 2**n + 1`, the 1 so far away that it is no longer aligned with the others: that distance is the group."""
    top = 2.0 ** (bits + 2)
    for place in range(2, length):
        if add([(0, top), (1, -top), (place, 1.0)]) == 1.0:
            return 1 if place == 2 else place
    return length


def _order(sums: Sums) -> str:
    """Describe the tree of a sum of `_IN_ORDER` products."""
    mask = min(_MASK, sums.largest)
    unit = max(mask - _APART, sums.smallest)

    def left(rows: Tensor) -> Tensor:
        return sums.of_powers(torch.where(rows == 0, 2.0**unit, rows * 2.0**mask)) / 2.0**unit

    try:
        return describe_tree(summation_tree(left, _IN_ORDER))
    except ValueError:
        return ""
