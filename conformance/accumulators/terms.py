"""Rows whose products are chosen: powers of two, some with a short significand, at stated places, zeros elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conformance.accumulators.machine import Machine
from incref.formats import FloatFormat

__all__ = ["Exponents", "Term", "exponents_of", "run"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One product, `left * right * 2**exponent`, at a place along K.

    `left` and `right` are significands that both formats have, 1 or 1.5 or so, or 0.
    """

    place: int
    exponent: int
    left: float = 1.0
    right: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Exponents:
    """Which powers of two products can be.

    Attributes:
        least: the least one.
        top: one that leaves room for significands and for sums of eight.
    """

    least: int
    top: int


def exponents_of(machine: Machine) -> Exponents:
    """Which powers of two the products of a machine can be, and float32 can hold."""
    formats = (machine.a_fmt, machine.b_fmt)
    return Exponents(
        least=max(sum(_least(fmt) for fmt in formats), -126), top=min(sum(fmt.emax for fmt in formats), 120) - 4
    )


def _least(fmt: FloatFormat) -> int:
    return fmt.emin - fmt.mantissa_bits


def _factors(term: Term, machine: Machine) -> tuple[float, float]:
    """Split a product into factors, both normal if they can be."""
    a, b = machine.a_fmt, machine.b_fmt
    for least_a, least_b in ((a.emin, b.emin), (_least(a), _least(b))):
        left = min(max(-(-term.exponent // 2), least_a), a.emax)
        right = term.exponent - left
        if not least_b <= right <= b.emax:
            right = min(max(right, least_b), b.emax)
            left = term.exponent - right
        if least_a <= left <= a.emax:
            return math.ldexp(term.left, left), math.ldexp(term.right, right)
    raise ValueError(f"{machine.name} has no product {term}")


def run(
    machine: Machine, cases: Sequence[Sequence[Term]], length: int, carried: Sequence[float] | None = None
) -> Tensor:
    """Give every case to the machine as one row of `length` products.

    Args:
        machine: what is probed.
        cases: the terms of each row.
        length: K.
        carried: what the sum of each row starts from.

    Returns:
        float64 [cases], the results.
    """
    a, b = torch.zeros(len(cases), length), torch.zeros(len(cases), length)
    for row, terms in enumerate(cases):
        for term in terms:
            left, right = _factors(term, machine)
            a[row, term.place], b[row, term.place] = left, right
    start = None if carried is None else torch.tensor(carried, dtype=torch.float32)
    return machine.rows(a, b, start).to(torch.float64)
