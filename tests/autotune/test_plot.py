import sys
from pathlib import Path

import pytest

from incref.autotune.metric import Metric
from incref.autotune.objective import Objective
from incref.autotune.plot import plot_trials
from incref.autotune.trial import Measurement, Trial
from incref.checkpoints.size import ModelSize
from incref.config.rtn import RTNConfig
from incref.errors import UnsupportedError


def measured(*values: float) -> Measurement:
    return Measurement(values=values, size=ModelSize(weight_elements=1, weight_bytes=1, elements=1, bytes=1_000_000))


def plot(metrics: tuple[Metric, ...], path: Path) -> None:
    objective = Objective(metrics=metrics, baseline=(4.0,) * len(metrics), tolerable_loss=0.25)
    values = (5.0,) * len(metrics)
    score = objective.score(values)
    trials = [
        Trial(number=1, config=RTNConfig(), measured=measured(*values), score=score, is_met=True),
        Trial(number=2, config=RTNConfig(bits=2), measured=Measurement(failure="no"), score=None, is_met=False),
    ]
    plot_trials(trials, measured(*objective.baseline), objective, path)


@pytest.mark.parametrize("count", [1, 2])
def test_the_picture_holds_trials_front_and_lines(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn = []
    monkeypatch.setattr(figure, "savefig", lambda self, path: drawn.append((self, path)))
    plot((Metric(len, name="perplexity", weight=2.0, higher_is_better=False),) * count, tmp_path / "front.png")
    ((saved, path),) = drawn
    (axes,) = saved.axes
    assert path == tmp_path / "front.png"
    # One metric is shown as it is; two as a score, of weights 2 and less being better.
    unit = 1.0 if count == 1 else -4.0
    assert axes.get_ylabel() == ("perplexity" if count == 1 else "score")
    assert axes.collections[0].get_offsets().tolist() == [[1.0, 5.0 * unit]]
    front, baseline, target = axes.get_lines()
    assert [list(xy) for xy in front.get_data()] == [[1.0], [5.0 * unit]]
    assert (baseline.get_ydata()[0], target.get_ydata()[0]) == (4.0 * unit, 5.0 * unit)


def test_the_picture_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot((Metric(len),), tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnsupportedError, match=r"a plot needs matplotlib; install it, or use table\(\)"):
        plot((Metric(len),), tmp_path / "front.png")
