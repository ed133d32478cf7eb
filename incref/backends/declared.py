"""What a backend says about its accumulator, where it does not say all."""

from dataclasses import dataclass

from incref.formats import Rounding
from incref.numerics.accumulate.models import (
    Accumulator,
    Aligned,
    Carry,
    Pairwise,
    Promoted,
    Reordered,
    Sequential,
    SplitK,
)

__all__ = ["ANY_ORDER", "AnyGroups", "AnyOf", "AnyOrder", "Declared", "in_any_order"]


@dataclass(frozen=True, kw_only=True)
class AnyOrder:
    """Sums in a float format of so many fraction bits and the exponents of float32, two terms at a time, in any order.

    Attributes:
        fraction_bits: of the format: 23 for float32.
        rounding: NEAREST_EVEN or TOWARD_ZERO, of every sum.
        rounds_products: whether a product is rounded before it is added, and not part of a fused operation.
        flushes: whether subnormal factors and results may become 0.
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

    What a sum has so far enters a group as one more term, exactly, or by an addition with as many fraction bits as
    results have; so are the sums brought together. K is split between groups only.

    Attributes:
        group: how many products are aligned together; the last group may have fewer.
        fraction_bits: bits kept below the largest exponent.
        result_bits: fraction bits of a sum.
        flushes: whether a sum below the normal numbers of float32 may become 0.
    """

    group: int
    fraction_bits: int
    result_bits: int
    flushes: bool = False

    def __post_init__(self) -> None:
        """Refuse widths that no unit has."""
        if self.group < 1 or self.fraction_bits < 1 or not 1 <= self.result_bits <= 23:
            raise ValueError(f"group and fraction_bits must be positive and result_bits 1 to 23, got {self}")


@dataclass(frozen=True, kw_only=True)
class AnyOf:
    """One of several, and which one depends on the arguments, such as their dtypes.

    Attributes:
        models: at least two.
    """

    models: "tuple[Accumulator | AnyOrder | AnyGroups, ...]"

    def __post_init__(self) -> None:
        """Refuse a choice of one, and a choice within a choice."""
        if len(self.models) < 2 or any(isinstance(one, AnyOf) for one in self.models):
            raise ValueError(f"a choice is between at least two accumulators, none of them a choice, got {self.models}")


Declared = Accumulator | AnyOrder | AnyGroups | AnyOf
"""A model in full, or what is known of it."""

ANY_ORDER = AnyOrder()
"""Sums in float32 in any order: what is declared where nothing else is."""


def in_any_order(model: Accumulator) -> AnyOrder | AnyGroups:
    """Say of an accumulator what holds however its products, or groups of them, are taken and K is split.

    >>> in_any_order(Aligned(group=32, fraction_bits=13, result_bits=13))
    AnyGroups(group=32, fraction_bits=13, result_bits=13, flushes=False)

    Raises:
        ValueError: for groups that are not consecutive or REALIGNED.
    """
    match model:
        case Sequential():
            return AnyOrder(rounds_products=not model.is_fused)
        case Pairwise():
            return AnyOrder(rounds_products=True)
        case Aligned() if model.carry is not Carry.REALIGNED:
            return AnyGroups(
                group=model.group,
                fraction_bits=model.fraction_bits,
                result_bits=model.result_bits,
                flushes=model.flushes,
            )
        case Promoted() | SplitK():
            return in_any_order(model.inner)
        case Reordered() | Aligned():
            raise ValueError(f"AnyGroups holds for consecutive groups that are not REALIGNED, got {model}")
