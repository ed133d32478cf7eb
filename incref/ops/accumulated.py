"""What operations that add many products have in common: how far an implementation may be from the exact sum."""

from incref.ops.contract import Tolerance

__all__ = ["ACCUMULATED", "adds_exactly"]

ACCUMULATED = Tolerance(
    exact_on="arguments for which every partial sum, in any order and grouping, has no more bits than the accumulator "
    "that the implementation declares keeps",
    bound="the result is what the stated roundings make of some real number within the bound that is derived for the "
    "declared accumulator, around the exact sum of exact products",
    proof="conformance/contracts/accumulation.md",
)
"""The tolerance of matrix products with an accumulator in floating point."""


def adds_exactly(*_: object, **__: object) -> bool:
    """Say that a reference looks at its values, whatever its arguments: at how many digits an exact sum takes."""
    return True
