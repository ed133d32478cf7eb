"""Measures the accumulator of a matrix product from outside, by sums of powers of two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.conformance.comparison import as_results
from incref.conformance.implementation import Candidate
from incref.conformance.summation_tree import describe_tree, summation_tree
from incref.formats import Rounding
from incref.numerics.granularity import PER_TOKEN
from incref.ops import encode

__all__ = ["Measured", "probe_accumulator"]

_MOST_BITS = 26
_LENGTH = 256
_FORMAT = "float8_e5m2"
_IN_ORDER = 32
_UNIT, _MASK = 2.0**-14, 2.0**26
"""As far apart as products of the format are, so that float32 loses `_IN_ORDER` units beside a mask."""


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


def probe_accumulator(candidate: Candidate, *, length: int = _LENGTH) -> Measured:
    """Measure the accumulator of `weight_only_matmul` or `fp8_matmul`.

    Args:
        candidate: called with activations and weights whose products are powers of two.
        length: K.

    Raises:
        ValueError: for another operation, or if no sum of two terms is exact.
    """
    if candidate.op not in _SUMS:
        raise ValueError(f"accumulators are probed through {', '.join(_SUMS)}, got {candidate.op}")

    def add(terms: Sequence[tuple[int, float]]) -> float:
        row = torch.zeros(1, length)
        for place, value in terms:
            row[0, place] = value
        return float(_SUMS[candidate.op](candidate, row)[0])

    held = [bits for bits in range(1, _MOST_BITS) if add([(0, 2.0**bits), (1, 1.0), (2, -(2.0**bits))]) == 1.0]
    if not held or held != list(range(1, len(held) + 1)):
        raise ValueError(f"1 should be left of 2**n + 1 - 2**n up to some n, and is for n in {held}")
    bits = len(held)
    order = _order(lambda rows: _SUMS[candidate.op](candidate, rows))
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


def _order(add_rows: Callable[[Tensor], Tensor]) -> str:
    """Describe the tree of a sum of `_IN_ORDER` products."""

    def left(rows: Tensor) -> Tensor:
        return add_rows(torch.where(rows == 0, _UNIT, rows * _MASK)) / _UNIT

    try:
        return describe_tree(summation_tree(left, _IN_ORDER))
    except ValueError:
        return ""


def _weight_only(candidate: Candidate, terms: Tensor) -> Tensor:
    """The sum of every row."""
    found = candidate.call(
        {
            "x": terms,
            "w": torch.ones(1, terms.shape[1], dtype=torch.int8),
            "scale": torch.ones(1, 1),
            "fmt": "int8",
            "granularity": PER_TOKEN,
            "dtype": torch.float32,
        }
    )
    return as_results(found)[0][:, 0]


def _fp8(candidate: Candidate, terms: Tensor) -> Tensor:
    """The same; both factors have about half of the exponent of a term."""
    exponent = torch.where(terms == 0, 0, torch.frexp(terms).exponent)
    half = exponent // 2
    x, w = torch.ldexp(terms, -half), torch.ldexp(torch.ones_like(terms), half)
    found = candidate.call(
        {
            "x": encode(x, _FORMAT),
            "w": encode(torch.where(terms == 0, 0.0, w), _FORMAT),
            "x_scale": None,
            "w_scale": None,
            "x_fmt": _FORMAT,
            "w_fmt": _FORMAT,
            "dtype": torch.float32,
        }
    )
    return as_results(found)[0].diagonal()


_SUMS: dict[str, Callable[[Candidate, Tensor], Tensor]] = {"weight_only_matmul": _weight_only, "fp8_matmul": _fp8}
