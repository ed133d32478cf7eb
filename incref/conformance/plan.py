"""What generators of cases are asked for."""

from dataclasses import dataclass

import torch

from incref.backends.declared import AnyGroups, AnyOf, AnyOrder, Declared
from incref.formats import Rounding
from incref.numerics.accumulate.models import Aligned, Carry, Pairwise, Promoted, Reordered, Sequential, SplitK

__all__ = ["Plan", "is_symmetric", "kept_bits", "rounds_to_nearest"]

_FLOAT32_BITS = 23


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A level of cases.

    Attributes:
        level: exactly this one, without the lower ones.
        seed: of random cases.
        bits: how many bits below its first the accumulator keeps, for operations that accumulate in floating point.
        is_random_only: whether cases that are the same for every seed are left out.
        is_symmetric: whether sums of negated terms are the negated sums, as the accumulator is declared.
        is_nearest: whether a sum of two terms is the nearest float32, as it is declared.
    """

    level: int
    seed: int = 0
    bits: int = 0
    is_random_only: bool = False
    is_symmetric: bool = False
    is_nearest: bool = False

    def generator(self, salt: int) -> torch.Generator:
        """Random numbers of this seed, for one purpose."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + salt)


def kept_bits(declared: Declared) -> int:
    """How many bits below its first a declared accumulator keeps of every sum."""
    match declared:
        case AnyOrder():
            return declared.fraction_bits
        case AnyOf():
            return min(map(kept_bits, declared.models))
        case AnyGroups() | Aligned():
            return min(declared.fraction_bits, declared.result_bits)
        case Reordered() | Promoted() | SplitK():
            return kept_bits(declared.inner)
        case Sequential() | Pairwise():
            return _FLOAT32_BITS


def is_symmetric(declared: Declared) -> bool:
    """Whether a declared accumulator rounds a sum and its negation alike; not known of `AnyGroups`."""
    match declared:
        case AnyGroups():
            return False
        case AnyOf():
            return all(map(is_symmetric, declared.models))
        case Aligned():
            roundings = (declared.term_rounding, declared.result_rounding)
            return Rounding.TOWARD_NEGATIVE not in roundings and declared.carry is not Carry.REALIGNED
        case Reordered() | Promoted() | SplitK():
            return is_symmetric(declared.inner)
        case AnyOrder() | Sequential() | Pairwise():
            return True


def rounds_to_nearest(declared: Declared) -> bool:
    """Whether a declared accumulator gives the nearest float32, ties to even, of two terms among zeros."""
    match declared:
        case AnyOrder():
            is_float32 = declared.fraction_bits == _FLOAT32_BITS and not declared.flushes
            return is_float32 and declared.rounding is Rounding.NEAREST_EVEN
        case AnyOf():
            return all(map(rounds_to_nearest, declared.models))
        case SplitK():
            return rounds_to_nearest(declared.inner)
        case Sequential() | Pairwise():
            return True
        case AnyGroups() | Aligned() | Reordered() | Promoted():
            return False
