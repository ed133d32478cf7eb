"""Which trials are worth a look."""

from collections.abc import Sequence

from incref.autotune.trial import Trial

__all__ = ["pareto_front"]


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that none with as small a model or a smaller one beats in score, smallest first."""
    measured = [(trial.size.bytes, -trial.score, trial) for trial in trials if trial.size and trial.score is not None]
    front: list[Trial] = []
    least = float("inf")
    for _, loss, trial in sorted(measured, key=lambda entry: entry[:2]):
        if loss < least:
            front.append(trial)
            least = loss
    return front
