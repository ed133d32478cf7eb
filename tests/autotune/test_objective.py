import pytest

from incref.autotune.metric import Metric
from incref.autotune.objective import Objective

UP, DOWN = Metric(len, name="up"), Metric(len, name="down", higher_is_better=False)


def is_met(metric: Metric, baseline: float, value: float, loss: float, *, is_relative: bool = True) -> bool:
    objective = Objective(metrics=(metric,), baseline=(baseline,), tolerable_loss=loss, is_relative=is_relative)
    return objective.score((value,)) >= objective.target


# All values are multiples of powers of two, so that bounds are exact.
@pytest.mark.parametrize(
    ("metric", "baseline", "worst", "loss", "is_relative"),
    [
        (UP, 0.5, 0.375, 0.25, True),
        # 25 % of -2 is 0.5, and down is worse.
        (UP, -2.0, -2.5, 0.25, True),
        (UP, 0.0, 0.0, 0.25, True),
        (UP, 0.5, 0.25, 0.25, False),
        (UP, -2.0, -2.25, 0.25, False),
        (UP, 0.0, -0.25, 0.25, False),
        (DOWN, 8.0, 10.0, 0.25, True),
        (DOWN, -8.0, -6.0, 0.25, True),
        (DOWN, 8.0, 8.25, 0.25, False),
        # Something has to be gained.
        (UP, 0.5, 0.625, -0.25, True),
        (UP, 0.5, 0.5, 0.0, True),
    ],
)
def test_the_worst_value_that_is_good_enough(
    metric: Metric, baseline: float, worst: float, loss: float, is_relative: bool
) -> None:
    worse = worst - metric.sign * 2.0**-40
    assert is_met(metric, baseline, worst, loss, is_relative=is_relative)
    assert not is_met(metric, baseline, worse, loss, is_relative=is_relative)


def test_metrics_are_weighed() -> None:
    metrics = (Metric(len, weight=3.0), Metric(len, weight=0.5, higher_is_better=False))
    objective = Objective(metrics=metrics, baseline=(0.5, -8.0), tolerable_loss=0.25)
    # 3 * 0.5 + 0.5 * 8 is the score of the baseline; 0.25 * (3 * 0.5 + 0.5 * 8) may be lost.
    assert objective.score((0.5, -8.0)) == 5.5
    assert objective.target == 5.5 - 1.375
    absolute = Objective(metrics=metrics, baseline=(0.5, -8.0), tolerable_loss=0.25, is_relative=False)
    assert absolute.target == 5.5 - 0.25 * 3.5


def test_what_one_metric_loses_another_can_make_up_for() -> None:
    objective = Objective(metrics=(UP, DOWN), baseline=(0.5, 4.0), tolerable_loss=0.0)
    assert objective.score((0.25, 3.75)) == objective.target
    assert objective.score((0.25, 3.875)) < objective.target
