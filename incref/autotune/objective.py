"""What a trial is worth, and when it is good enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from incref.autotune.metric import Metric

__all__ = ["Objective"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Compares the metrics of a quantized model with those of the float model.

    With weights `w`, signs `s` (-1 where less is better), values `m` and those of the float model `b`:

    * `score = sum(w s m)`
    * `target = sum(w s b) - tolerable_loss * sum(w |b|)`, or `... * sum(w)` if the tolerance is absolute
    * good enough: `score >= target`

    So with one metric: at least `b - |b| * tolerable_loss`, or at most `b + |b| * tolerable_loss` where less is better,
    whatever the sign of `b`. A sum is rounded once.

    Attributes:
        metrics: in the order of the values.
        baseline: values of the float model.
        tolerable_loss: what may be lost; negative if something has to be gained.
        is_relative: whether that is a fraction of the baseline.
    """

    metrics: tuple[Metric, ...]
    baseline: tuple[float, ...]
    tolerable_loss: float
    is_relative: bool = True

    @property
    def target(self) -> float:
        """The least score that is good enough."""
        units = [abs(b) if self.is_relative else 1.0 for b in self.baseline]
        allowed = math.fsum(metric.weight * unit for metric, unit in zip(self.metrics, units, strict=True))
        return self.score(self.baseline) - self.tolerable_loss * allowed

    def score(self, values: Sequence[float]) -> float:
        """Weigh the values of a model; more is better."""
        return math.fsum(m.weight * m.sign * value for m, value in zip(self.metrics, values, strict=True))
