"""`TuningResult`: everything that a search found."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from incref.autotune.front import pareto_front
from incref.autotune.objective import Objective
from incref.autotune.plot import plot_trials
from incref.autotune.table import trial_table, verdict
from incref.autotune.trial import Measurement, Trial

__all__ = ["TuningResult"]


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """What a search found.

    Attributes:
        model: the best quantized model.
        best: the trial that gave it.
        trials: all of them, in their order, with those that failed.
        baseline: what was measured of the float model.
        objective: what trials were compared by.
    """

    model: nn.Module
    best: Trial
    trials: tuple[Trial, ...]
    baseline: Measurement
    objective: Objective

    @property
    def is_met(self) -> bool:
        """Whether the best model is good enough."""
        return self.best.is_met

    @property
    def front(self) -> list[Trial]:
        """The trials that no other one beats in both size and score, smallest first."""
        return pareto_front(self.trials)

    def verdict(self) -> str:
        """Say in a sentence whether the tolerance was met, by which trial and with what."""
        return verdict(self.best, self.objective)

    def table(self) -> str:
        """Show the float model and all trials, one a line, and the verdict."""
        return trial_table(self.trials, self.baseline, self.best, self.objective)

    def plot(self, path: str | Path) -> None:
        """Plot the size of every trial against its value, with the front, the baseline and the target.

        Args:
            path: of the picture; its extension says of what kind.

        Raises:
            UnsupportedError: if matplotlib is not installed.
        """
        plot_trials(self.trials, self.baseline, self.objective, Path(path))
