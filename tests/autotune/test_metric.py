import math

import pytest
import torch
from torch import nn

from incref.autotune.metric import Metric, as_metrics, evaluate

MODEL = nn.Identity()


def accuracy(model: nn.Module, *data: object) -> object:
    assert model is MODEL
    return data[0] if data else 0.5


def test_defaults() -> None:
    metric = Metric(accuracy)
    assert (metric.name, metric.weight, metric.higher_is_better, metric.sign) == ("accuracy", 1.0, True, 1)
    assert Metric(accuracy, higher_is_better=False).sign == -1


@pytest.mark.parametrize("weight", [0, -1.0, math.inf, math.nan])
def test_a_weight_is_positive_and_finite(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be positive and finite, got "):
        Metric(accuracy, weight=weight)


def test_a_metric_is_a_function() -> None:
    with pytest.raises(TypeError, match="eval_fn must be a function of a model, got 3"):
        Metric(3)


def test_everything_that_names_metrics() -> None:
    perplexity = Metric(accuracy, name="perplexity", higher_is_better=False)
    assert as_metrics(accuracy) == (Metric(accuracy),)
    assert as_metrics(perplexity) == (perplexity,)
    described = {"eval_fn": accuracy, "weight": 0.5, "name": "speed"}
    assert as_metrics([perplexity, described, accuracy]) == (
        perplexity,
        Metric(accuracy, weight=0.5, name="speed"),
        Metric(accuracy),
    )


@pytest.mark.parametrize("given", [3, "accuracy", None])
def test_other_things_are_no_metrics(given: object) -> None:
    with pytest.raises(TypeError, match="eval_fn must be a function, a Metric, a dict or a list of these"):
        as_metrics(given)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="eval_fn must have a metric, got an empty list"):
        as_metrics([])


def test_a_misspelt_key_is_refused() -> None:
    with pytest.raises(TypeError, match="wieght"):
        as_metrics({"eval_fn": accuracy, "wieght": 1.0})


@pytest.mark.parametrize(
    ("eval_args", "value"),
    [(None, 0.5), ((0.25,), 0.25), ([0.25, "more"], 0.25), (3, 3.0), (torch.tensor(0.75), 0.75), (True, 1.0)],
)
def test_any_number_is_a_value(eval_args: object, value: float) -> None:
    assert evaluate(Metric(accuracy), MODEL, eval_args) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, torch.tensor(math.nan)])
def test_a_value_is_finite(value: object) -> None:
    with pytest.raises(ValueError, match="accuracy must return a finite number, got "):
        evaluate(Metric(accuracy), MODEL, (value,))


@pytest.mark.parametrize("value", ["0.5", None, [0.5]])
def test_other_things_are_no_values(value: object) -> None:
    with pytest.raises(TypeError, match="accuracy must return a number, got "):
        evaluate(Metric(accuracy), MODEL, (value,))
