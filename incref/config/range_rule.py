"""Which part of the values that a layer is fed its integers cover."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["RangeMethod", "RangeRule"]


class RangeMethod(Enum):
    """How a range is chosen.

    `lo` and `hi` are the least and the greatest of all values. Every method but MINMAX chooses a threshold `t`, and the
    range is `[max(lo, -t), min(hi, t)]`. Values are counted in bins of equal width, and thresholds are the edges of
    bins; see `Histogram`.
    """

    MINMAX = "minmax"
    """`[lo, hi]`, the whole of it."""
    PERCENTILE = "percentile"
    """The least `t` for which at least `percentile` percent of all values are in `-t <= x < t` (arXiv 2004.09602)."""
    KL = "kl"
    """The `t` with the least `sum(P * log(P / Q))` (Migacz, 8-bit inference with TensorRT, GTC 2017).

    P are the counts of the bins inside the range, those outside added to the bin at their end. Q are the counts inside
    alone, after all bins whose middles have the same code share their sum, each of them that is not empty equally. Both
    are divided by their sums. Tried are those `t` for which no bin has P without Q, and the range has at least as many
    bins as there are codes: what is cut off counts little, so that the divergence of a very narrow range is small."""
    MSE = "mse"
    """The `t` with the least `sum(count * (dequantize(quantize(c)) - c)**2)`, `c` being the middle of a bin."""


@dataclass(frozen=True, kw_only=True)
class RangeRule:
    """How the range of a static input is found.

    Attributes:
        method: see `RangeMethod`.
        percentile: what PERCENTILE keeps.

    Raises:
        ValueError: if `percentile` is not in (0, 100].
    """

    method: RangeMethod = RangeMethod.MINMAX
    percentile: float = 99.99

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile must be in (0, 100], got {self.percentile}")
