from incref.autotune.front import pareto_front
from incref.autotune.trial import Measurement, Trial
from incref.checkpoints.size import ModelSize
from incref.config.rtn import RTNConfig


def trial(number: int, size: int, score: float | None) -> Trial:
    model_size = ModelSize(weight_elements=1, weight_bytes=1, elements=1, bytes=size)
    measured = Measurement(failure="no") if score is None else Measurement(values=(score,), size=model_size)
    return Trial(number=number, config=RTNConfig(), measured=measured, score=score, is_met=False)


def test_a_trial_that_another_beats_is_left_out() -> None:
    trials = [trial(1, 30, 3.0), trial(2, 10, 1.0), trial(3, 20, 0.5), trial(4, 10, 0.9), trial(5, 30, 3.0)]
    assert [one.number for one in pareto_front(trials)] == [2, 1]


def test_failures_are_left_out() -> None:
    assert pareto_front([trial(1, 10, None)]) == []
