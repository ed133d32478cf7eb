"""What a backend says about its accumulator, where it does not say all."""

from dataclasses import dataclass

from incref.formats import Rounding
from incref.numerics.accumulate.models import Accumulator

__all__ = ["AnyGroups", "AnyOrder", "Declared"]


@dataclass(frozen=True, kw_only=True)
class AnyOrder:
    """Sums in a float format of so many fraction bits and the exponents of float32, two terms at a time, in any order.

    Attributes:
        fraction_bits: of the format: 23 for float32.
        rounding: NEAREST_EVEN or TOWARD_ZERO, of every sum.
        rounds_products: whether a product is rounded before it is added, and not part of a fused operation.
        flushes: whether subnormal results become 0.
    """

    fraction_bits: int = 23
    rounding: Rounding = Rounding.NEAREST_EVEN
    rounds_products: bool = False
    flushes: bool = False

    def __post_init__(self) -> None:
        """Refuse other roundings."""
        if self.rounding not in (Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO):
            raise ValueError(f"sums are rounded to NEAREST_EVEN or TOWARD_ZERO, got {self.rounding}")
        if not 1 <= self.fraction_bits <= 23:
            raise ValueError(f"fraction_bits must be 1 to 23, got {self.fraction_bits}")


@dataclass(frozen=True, kw_only=True)
class AnyGroups:
    """Consecutive groups of `group` products, aligned and cut off as by `Aligned`, in any order and any number of sums.

    What a sum has so far enters a group as one more term, or by an addition with as many fraction bits as results have;
    so are the sums brought together. K is split between groups only.

    Attributes:
        group: how many products are aligned together; the last group may have fewer.
        fraction_bits: bits kept below the largest exponent.
        result_bits: fraction bits of a sum.
    """

    group: int
    fraction_bits: int
    result_bits: int

    def __post_init__(self) -> None:
        """Refuse widths that no unit has."""
        if self.group < 1 or self.fraction_bits < 1 or not 1 <= self.result_bits <= 23:
            raise ValueError(f"group and fraction_bits must be positive and result_bits 1 to 23, got {self}")


Declared = Accumulator | AnyOrder | AnyGroups
"""A model in full, or what is known of it."""
