"""What generators of cases are asked for."""

from dataclasses import dataclass

import torch

from incref.conformance.declared import AnyGroups, AnyOrder, Declared
from incref.numerics.accumulate.models import Aligned, Pairwise, Promoted, Reordered, Sequential, SplitK

__all__ = ["Plan", "kept_bits"]

_FLOAT32_BITS = 23


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A level of cases.

    Attributes:
        level: exactly this one, without the lower ones.
        seed: of random cases.
        bits: how many bits below its first the accumulator keeps, for operations that accumulate in floating point.
        is_random_only: whether cases that are the same for every seed are left out.
    """

    level: int
    seed: int = 0
    bits: int = 0
    is_random_only: bool = False

    def generator(self, salt: int) -> torch.Generator:
        """Random numbers of this seed, for one purpose."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + salt)


def kept_bits(declared: Declared) -> int:
    """How many bits below its first a declared accumulator keeps of every sum."""
    match declared:
        case AnyOrder():
            return declared.fraction_bits
        case AnyGroups() | Aligned():
            return min(declared.fraction_bits, declared.result_bits)
        case Reordered() | Promoted() | SplitK():
            return kept_bits(declared.inner)
        case Sequential() | Pairwise():
            return _FLOAT32_BITS
