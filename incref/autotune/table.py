"""Trials as text."""

from collections.abc import Sequence

from incref.autotune.label import label
from incref.autotune.objective import Objective
from incref.autotune.trial import Measurement, Trial

__all__ = ["trial_table", "verdict"]


def trial_table(trials: Sequence[Trial], baseline: Measurement, best: Trial, objective: Objective) -> str:
    """Show the float model and all trials, one a line, and the verdict."""
    names = [metric.name for metric in objective.metrics]
    rows = [["", "configuration", *names, "MB", "bits", "seconds", ""], ["", "float model", *_measured(baseline), ""]]
    for trial in trials:
        mark = "*" if trial is best else ""
        cells = _measured(trial.measured) if not trial.failure else [""] * (len(names) + 3)
        rows.append([f"{trial.number}{mark}", label(trial.config), *cells, _state(trial)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 1, len(row) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, verdict(best, objective)])


def verdict(best: Trial, objective: Objective) -> str:
    """Say in a sentence whether the tolerance was met, by which trial and with what."""
    found = ", ".join(
        f"{metric.name} {value:.6g} (float model: {base:.6g})"
        for metric, value, base in zip(objective.metrics, best.values, objective.baseline, strict=True)
    )
    tolerance = f"{objective.tolerable_loss:g} ({'relative' if objective.is_relative else 'absolute'})"
    if best.is_met:
        return f"A loss of {tolerance} was tolerable, and trial {best.number} meets that: {found}."
    return f"A loss of {tolerance} was tolerable, and NO trial meets that; the best is trial {best.number}: {found}."


def _measured(measured: Measurement) -> list[str]:
    assert measured.size is not None
    return [
        *(f"{value:.6g}" for value in measured.values),
        f"{measured.size.bytes / 1e6:.3f}",
        f"{measured.size.bits_per_weight:.2f}",
        f"{measured.quantize_seconds + measured.eval_seconds:.1f}",
    ]


def _state(trial: Trial) -> str:
    if trial.failure:
        return f"failed: {trial.failure.splitlines()[0]}"
    return ("met" if trial.is_met else "not met") + (", from the journal" if trial.is_recalled else "")
