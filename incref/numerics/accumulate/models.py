"""Accumulators as data: in which order, in which groups and with how many bits products are added.

`incref.numerics.accumulate.evaluate` computes what they say.
"""

from dataclasses import dataclass
from enum import Enum

from incref.formats import Rounding

__all__ = ["Accumulator", "AlignTo", "Aligned", "Carry", "Pairwise", "Promoted", "Reordered", "Sequential", "SplitK"]


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """float32 sums in the order of K: `acc = RN(acc + RN(a * b))`, or `RN(acc + a * b)` if fused.

    Attributes:
        is_fused: whether a product enters its sum unrounded (IEEE 754-2019, 5.4.1, fusedMultiplyAdd).
    """

    is_fused: bool = False


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """float32 sums of neighbours, level by level; the products are rounded, and an odd one out waits a level."""


class AlignTo(Enum):
    """Which exponents decide where the terms of a group are cut off."""

    FACTORS = "factors"
    """The sum of the factors' exponents, as a multiplier has it before it normalizes: 1.5 * 1.5 counts as 2**0."""
    PRODUCTS = "products"
    """The exponent of the product: 1.5 * 1.5 counts as 2**1."""


class Carry(Enum):
    """How what has been summed so far enters the next group."""

    ALIGNED = "aligned"
    """As one more term of the group, cut off with the products."""
    ADDED = "added"
    """By one addition in float32, to nearest even, of the rounded sum of the group."""
    REALIGNED = "realigned"
    """As one of two terms, the other being the exact sum of the cut-off products.

    Both are rounded TOWARD_NEGATIVE: with E2 the larger of the exponents of the products and of what is carried, the
    sum to a multiple of `2**(E2 - carry_bits)`, what is carried to one of `2**(E2 - fraction_bits)`. Then they are
    added exactly.
    """
    UNROUNDED = "unrounded"
    """By an exact addition to the exact sum of the cut-off products, before the one rounding of the result."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Groups of products added as fixed-point numbers, as matrix units do it.

    With `E` the largest exponent among the terms of a group (zeros have none, and `E >= least_exponent`), every term is
    rounded to a multiple of `2**(E - fraction_bits)` by `term_rounding`; these are added exactly; the sum is rounded to
    `result_bits` fraction bits by `result_rounding`. A sum beyond float32 is Inf, and one that is zero is +0.

    Attributes:
        group: how many products are aligned together, consecutive along K; the last group may have fewer.
        fraction_bits: bits kept below the largest exponent.
        result_bits: fraction bits of the sum, its exponent being that of float32.
        term_rounding: TOWARD_ZERO, TOWARD_NEGATIVE or NEAREST_EVEN.
        result_rounding: likewise.
        align_to: which exponents are compared.
        carry: how the sum of the groups before enters.
        flushes: whether a sum below the normal numbers of float32 becomes 0.
        least_exponent: the least `E`.
        carry_bits: for REALIGNED only.
    """

    group: int
    fraction_bits: int
    result_bits: int
    term_rounding: Rounding = Rounding.TOWARD_ZERO
    result_rounding: Rounding = Rounding.TOWARD_ZERO
    align_to: AlignTo = AlignTo.FACTORS
    carry: Carry = Carry.ALIGNED
    flushes: bool = False
    least_exponent: int = -126
    carry_bits: int | None = None

    def __post_init__(self) -> None:
        """Refuse widths that float64 can't add exactly, and roundings that no unit has."""
        allowed = (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE, Rounding.NEAREST_EVEN)
        if self.term_rounding not in allowed or self.result_rounding not in allowed:
            raise ValueError(f"an aligned sum rounds TOWARD_ZERO, TOWARD_NEGATIVE or to NEAREST_EVEN, got {self}")
        if self.group < 1 or self.fraction_bits < 1 or not 1 <= self.result_bits <= 23:
            raise ValueError(f"group and fraction_bits must be positive and result_bits 1 to 23, got {self}")
        if self.carry is Carry.UNROUNDED and (self.result_bits, self.result_rounding) != (23, Rounding.NEAREST_EVEN):
            raise ValueError(f"UNROUNDED goes with a result rounded to NEAREST_EVEN in float32, got {self}")
        if (self.carry is Carry.REALIGNED) != (self.carry_bits is not None):
            raise ValueError(f"carry_bits goes with REALIGNED, and REALIGNED with it, got {self}")
        # A term is below 4 * 2**fraction_bits, and the group has one more than its products.
        if max(self.fraction_bits, self.carry_bits or 0) + 2 + self.group.bit_length() > 53:
            raise ValueError(f"fraction_bits + 2 + bits of group must be at most 53, got {self}")


@dataclass(frozen=True, kw_only=True)
class Reordered:
    """An aligned sum that takes the products in another order than K has.

    K is filled up with zeros to a multiple of the period.

    Attributes:
        inner: how the products are added, in the order in which they are taken.
        order: of every `len(order)` products, the places of those that are taken, one after the other.
    """

    inner: Aligned
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse an order that takes a product twice, or ends within a group."""
        if sorted(self.order) != list(range(len(self.order))) or len(self.order) % self.inner.group:
            raise ValueError(
                f"order must have each place once, a multiple of the group of {self.inner.group}, got {self.order}"
            )


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """A new aligned sum every `every` products, each added to a float32 total, to nearest even, in order.

    Attributes:
        inner: how the products of one stretch are added.
        every: how many products a stretch has.
    """

    inner: Aligned
    every: int

    def __post_init__(self) -> None:
        """Refuse stretches that end within a group."""
        if self.every < 1 or self.every % self.inner.group:
            raise ValueError(f"every must be a multiple of the group, {self.inner.group}, got {self.every}")


@dataclass(frozen=True, kw_only=True)
class SplitK:
    """K in `parts` consecutive runs of whole tiles, summed apart, and their sums in float32, to nearest even, in order.

    The tiles are dealt out as evenly as they go, the first runs having one more.

    Attributes:
        inner: how a run is added.
        parts: how many runs there are.
        tile: how many products stay together.
    """

    inner: "Sequential | Pairwise | Aligned | Promoted"
    parts: int
    tile: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no split."""
        if self.parts < 1 or self.tile < 1:
            raise ValueError(f"parts and tile must be positive, got {self.parts} and {self.tile}")


Accumulator = Sequential | Pairwise | Aligned | Reordered | Promoted | SplitK
"""Any model."""
