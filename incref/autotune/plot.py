"""Trials as a picture."""

from collections.abc import Sequence
from pathlib import Path

from incref.autotune.front import pareto_front
from incref.autotune.objective import Objective
from incref.autotune.trial import Measurement, Trial
from incref.errors import UnsupportedError

__all__ = ["plot_trials"]


def plot_trials(trials: Sequence[Trial], baseline: Measurement, objective: Objective, path: Path) -> None:
    """Plot the size of every trial against its value: that of the metric if there is one, else the score.

    Raises:
        UnsupportedError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # slow, and optional
    except ModuleNotFoundError as error:
        raise UnsupportedError("a plot needs matplotlib; install it, or use table()") from error
    # The score of one metric is its value, but for the weight and the sign.
    only = objective.metrics[0] if len(objective.metrics) == 1 else None
    unit = 1.0 if only is None else only.weight * only.sign
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    points = {t.number: (t.size.bytes / 1e6, t.score / unit) for t in trials if t.size and t.score is not None}
    axes.scatter(*zip(*points.values(), strict=True), color="tab:blue")
    for number, point in points.items():
        axes.annotate(str(number), point, xytext=(4, 4), textcoords="offset points", fontsize=8)
    front = [points[trial.number] for trial in pareto_front(trials)]
    axes.plot(*zip(*front, strict=True), color="tab:blue", linewidth=1, alpha=0.5, label="no trial is better in both")
    axes.axhline(objective.score(baseline.values) / unit, color="gray", linewidth=1, label="float model")
    axes.axhline(objective.target / unit, color="gray", linewidth=1, linestyle="--", label="tolerable")
    axes.set_xlabel("size of the model, MB")
    axes.set_ylabel("score" if only is None else only.name)
    axes.legend()
    figure.savefig(path)
