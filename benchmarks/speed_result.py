"""What a measurement found, beside the bar that it is held to."""

from dataclasses import asdict, dataclass, replace
from enum import Enum

from benchmarks.timing import Times
from conformance.record import Json

__all__ = ["Better", "Judged", "Ratio", "not_measured", "ratio_of", "speedup_of"]


class Better(Enum):
    """Which ratios are good."""

    LESS = "less"
    """Those of times: ours to the other's."""
    MORE = "more"
    """Those that say how many times as fast we are."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The median of a ratio over the rounds, the least and the greatest."""

    ratio: float
    least: float
    greatest: float

    def as_json(self) -> dict[str, Json]:
        """Two places behind the point."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Some work, and how fast it has to be.

    Attributes:
        work: what is done.
        base: what its time is compared with.
        better: which ratios are good.
        bar: the ratio that is asked for.
        stretch: the one that is hoped for.
        found: the ratio; None if there is none.
        reason: why there is none.
    """

    work: str
    base: str
    better: Better
    bar: float
    stretch: float
    found: Ratio | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Json]:
        """As a run stores it."""
        row: dict[str, Json] = {"work": self.work, "base": self.base, "bar": self.bar, "stretch": self.stretch}
        row["better"] = self.better.value
        if self.found is None:
            return {**row, "reason": self.reason}
        ratio = self.found.ratio
        is_met = ratio <= self.bar if self.better is Better.LESS else ratio >= self.bar
        return {**row, **self.found.as_json(), "is_met": is_met}


def ratio_of(one: Times, base: Times) -> Ratio:
    """The time of `one` over the median of that of `base`."""
    return Ratio(ratio=one.median / base.median, least=one.least / base.median, greatest=one.greatest / base.median)


def speedup_of(one: Times, base: Times) -> Ratio:
    """How many times as fast as the median of `base` `one` is."""
    return Ratio(ratio=base.median / one.median, least=base.median / one.greatest, greatest=base.median / one.least)


def not_measured(reason: str, *rows: Judged) -> list[Judged]:
    """Give rows a reason for why they have no ratio."""
    return [replace(row, reason=reason) for row in rows]
