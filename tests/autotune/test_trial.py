import json

import pytest

from incref.autotune.trial import Measurement, Trial, rank
from incref.checkpoints.size import ModelSize
from incref.config.rtn import RTNConfig

SIZE = ModelSize(weight_elements=4, weight_bytes=3, elements=6, bytes=11)


def trial(score: float, size: int, *, is_met: bool) -> Trial:
    model_size = ModelSize(weight_elements=4, weight_bytes=3, elements=6, bytes=size)
    measured = Measurement(values=(score,), size=model_size, quantize_seconds=1.0, eval_seconds=0.5)
    return Trial(number=1, config=RTNConfig(), measured=measured, score=score, is_met=is_met)


@pytest.mark.parametrize(
    "measured",
    [
        Measurement(values=(0.1, -2.0), size=SIZE, quantize_seconds=1.5, eval_seconds=0.25),
        Measurement(failure="ValueError: no"),
    ],
)
def test_a_measurement_survives_json(measured: Measurement) -> None:
    assert Measurement.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def test_a_trial_shows_what_was_measured() -> None:
    one = trial(0.5, 11, is_met=True)
    assert (one.values, one.size, one.seconds, one.failure) == ((0.5,), SIZE, 1.5, "")


def test_the_smallest_that_is_good_enough_is_best() -> None:
    ranks = [
        rank(trial(0.1, 10, is_met=False)),
        rank(trial(0.2, 90, is_met=False)),
        rank(trial(0.9, 90, is_met=True)),
        rank(trial(0.8, 20, is_met=True)),
        rank(trial(0.85, 20, is_met=True)),
    ]
    assert ranks == sorted(set(ranks))


def test_equals_rank_alike() -> None:
    assert rank(trial(0.1, 10, is_met=False)) == rank(trial(0.1, 90, is_met=False))
