"""How the largest magnitude of a tensor becomes its scale: the scale methods of FP8."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["MaxAbsScale", "ScaleValue"]


class ScaleValue(Enum):
    """Which values a scale may have.

    `s = amax / (qmax * backoff)`, rounded to float32 once, is the least scale for which nothing exceeds `backoff` times
    the range. A tensor of zeros has the scale 1.
    """

    ONE = "one"
    """1, whatever `amax` is."""
    ANY = "any"
    """`s`, but at least the smallest normal float32."""
    POWER_OF_TWO = "power_of_two"
    """`2**ceil(log2(s))`, from `2**-126` to `2**127`."""
    LISTED = "listed"
    """The least of `choices` that is not below `s`, or the greatest of them if all are."""
    FIXED = "fixed"
    """The only one of `choices`."""
    BEST_LISTED = "best_listed"
    """The one of `choices` for which `sum((x - dequantize(quantize(x)))**2)` is least over all that share the scale."""
    BEST_MULTIPLE = "best_multiple"
    """The power of two of POWER_OF_TWO, times the one of `choices` for which that sum is least."""


@dataclass(frozen=True, kw_only=True)
class MaxAbsScale:
    """A scale method.

    Attributes:
        value: which values a scale may have.
        backoff: the fraction of the range that the largest magnitude may take.
        choices: powers of two, ascending, for the values that are chosen from some.

    Raises:
        ValueError: if `backoff` is not in (0, 1], or `choices` don't go with `value`.
    """

    value: ScaleValue
    backoff: float = 1.0
    choices: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 < self.backoff <= 1:
            raise ValueError(f"backoff must be in (0, 1], got {self.backoff}")
        chooses = self.value not in (ScaleValue.ONE, ScaleValue.ANY, ScaleValue.POWER_OF_TWO)
        if chooses != bool(self.choices) or list(self.choices) != sorted(self.choices):
            raise ValueError(f"{self.value} {'needs ascending' if chooses else 'has no'} choices, got {self.choices}")
        if self.value is ScaleValue.FIXED and len(self.choices) != 1:
            raise ValueError(f"a fixed scale is one, got {self.choices}")
