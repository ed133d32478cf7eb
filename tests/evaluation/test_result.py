import math
from dataclasses import replace

import pytest

from incref.checkpoints.size import ModelSize
from incref.errors import CheckpointError
from incref.evaluation.result import Evaluation, loss_against

SIZE = ModelSize(weight_elements=4, weight_bytes=2, elements=6, bytes=10)
BASE = Evaluation(
    scheme="float32", nll=(1.0, 2.0, 3.0), size=SIZE, file_bytes=9, quantize_seconds=0.5, eval_seconds=2.0
)


def test_json_and_back() -> None:
    assert Evaluation.from_json(BASE.to_json()) == BASE


@pytest.mark.parametrize("change", [{"nll": None}, {"size": 1}, {"more": 1}])
def test_other_json_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="an evaluation has the fields"):
        Evaluation.from_json(BASE.to_json() | change)


def test_perplexity_is_of_the_mean() -> None:
    assert BASE.mean_nll == 2.0
    assert BASE.perplexity == math.exp(2.0)
    assert replace(BASE, nll=(1e3,)).perplexity == math.inf


def test_loss_and_its_standard_error() -> None:
    # Differences 0.5, 1.0, 1.5: mean 1, sum of squared deviations 1/2, over n (n - 1) = 6.
    loss = loss_against(BASE, replace(BASE, nll=(1.5, 3.0, 4.5)))
    assert loss.delta_nll == 1.0
    assert loss.ratio == math.exp(1.0)
    assert loss.standard_error == math.sqrt(0.25 / 3)


def test_single_window_has_no_standard_error() -> None:
    one = replace(BASE, nll=(1.0,))
    assert math.isnan(loss_against(one, one).standard_error)


def test_different_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="same windows, got 3 and 1"):
        loss_against(BASE, replace(BASE, nll=(1.0,)))
