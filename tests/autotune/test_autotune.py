"""`autotune` by the semantics of Neural Compressor, and what is wrong there is right here."""

import inspect
import logging

import pytest
import torch
from torch import nn

import incref
from incref import RTNConfig, TuningConfig, autotune
from incref.modules.linear import QuantLinear


def make(*, lm_head: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = {"fc": nn.Linear(128, 8)} | ({"lm_head": nn.Linear(8, 8)} if lm_head else {})
    return nn.ModuleDict(layers)


class Values:
    """Gives the baseline, then one value after the other; keeps the models."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.models: list[nn.Module] = []

    def __call__(self, model: nn.Module) -> float:
        self.models.append(model)
        return self.values[len(self.models) - 1]

    @property
    def trials(self) -> int:
        return len(self.models) - 1


SPACE = {"use_sym": [False, True], "group_size": [32, 128]}


def found(model: nn.Module) -> tuple[bool, int]:
    layer = model.get_submodule("fc")
    assert isinstance(layer, QuantLinear)
    spec = layer.qweight.spec
    return spec.symmetric, spec.granularity.block[-1]


def test_arguments_are_those_that_callers_know() -> None:
    assert {name: p.default for name, p in inspect.signature(incref.autotune).parameters.items()} == {
        "model": inspect.Parameter.empty,
        "tune_config": inspect.Parameter.empty,
        "eval_fn": inspect.Parameter.empty,
        "eval_args": None,
        "run_fn": None,
        "run_args": None,
        "example_inputs": None,
    }


def test_stops_at_the_first_that_is_good_enough() -> None:
    evaluation = Values(1.0, 0.5, 0.9, 0.95, 1.0)
    best = autotune(make(), TuningConfig(RTNConfig(**SPACE), tolerable_loss=0.125), evaluation)
    assert evaluation.trials == 2
    assert found(best) == (False, 128)


def test_else_returns_the_best_of_all() -> None:
    evaluation = Values(1.0, 0.5, 0.25, 0.75, 0.75)
    best = autotune(make(), TuningConfig(RTNConfig(**SPACE)), evaluation)
    assert evaluation.trials == 4
    assert found(best) == (True, 32)


def test_arguments_of_functions_are_handed_on() -> None:
    seen: list[tuple[object, ...]] = []

    def evaluation(model: nn.Module, *args: object) -> float:
        assert model.get_submodule("fc") is not None
        seen.append(args)
        return 1.0

    autotune(make(), TuningConfig(RTNConfig()), evaluation, ("data", 3))
    autotune(make(), TuningConfig(RTNConfig()), evaluation, "data")
    assert seen == [("data", 3)] * 2 + [("data",)] * 2


def test_a_baseline_of_zero_is_a_baseline() -> None:
    evaluation = Values(0.0, -0.1, 0.0, 1.0, 1.0)
    assert found(autotune(make(), TuningConfig(RTNConfig(**SPACE)), evaluation)) == (False, 128)


def test_a_negative_baseline_may_be_missed_by_the_tolerance() -> None:
    # 1 % below -2 is -2.02; there, -1.98 would be asked for.
    evaluation = Values(-2.0, -2.03, -2.01, -1.0, -1.0)
    assert found(autotune(make(), TuningConfig(RTNConfig(**SPACE), tolerable_loss=0.01), evaluation)) == (False, 128)
    assert evaluation.trials == 2


def test_the_users_objects_are_not_changed() -> None:
    space = RTNConfig(**SPACE)
    config = TuningConfig(space, max_trials=100)
    autotune(make(lm_head=True), config, Values(1.0, 0.0, 0.0, 0.0, 0.0))
    assert config.max_trials == 100
    assert space == RTNConfig(**SPACE)


def test_no_trials_are_not_one() -> None:
    with pytest.raises(ValueError, match="max_trials must be at least 1, got 0"):
        TuningConfig(RTNConfig(), max_trials=0)


@pytest.mark.parametrize("quant_lm_head", [False, True])
def test_what_was_tried_is_not_tried_again_and_there_is_always_a_model(quant_lm_head: bool) -> None:
    evaluation = Values(1.0, 0.25, 0.5)
    same = [RTNConfig(bits=4, quant_lm_head=quant_lm_head) for _ in range(2)]
    best = autotune(
        make(lm_head=True), TuningConfig([*same, RTNConfig(bits=8, quant_lm_head=quant_lm_head)]), evaluation
    )
    assert evaluation.trials == 2
    assert best is evaluation.models[2]


def test_an_exception_ends_a_trial_and_not_the_search() -> None:
    def evaluation(model: nn.Module) -> float:
        if isinstance(model.get_submodule("fc"), QuantLinear) and found(model) == (False, 32):
            raise RuntimeError("no room")
        return 1.0

    assert found(autotune(make(), TuningConfig(RTNConfig(**SPACE)), evaluation)) == (False, 128)


@pytest.mark.parametrize(
    ("value", "level", "says"), [(1.0, "INFO", "trial 1 meets that"), (0.5, "WARNING", "NO trial")]
)
def test_it_is_said_whether_the_tolerance_was_met(
    value: float, level: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "incref"):
        autotune(make(), TuningConfig(RTNConfig()), Values(1.0, value))
    (record,) = [record for record in caplog.records if says in record.getMessage()]
    assert record.levelname == level
    assert record.name == "incref.autotune.autotune"


def test_the_best_is_the_very_model_that_was_evaluated() -> None:
    evaluation = Values(1.0, 0.25, 0.5, 0.125, 0.0)
    assert autotune(make(), TuningConfig(RTNConfig(**SPACE)), evaluation) is evaluation.models[2]


def test_the_default_set_is_searched_if_nothing_is_named() -> None:
    evaluation = Values(1.0, *[0.0] * 100)
    autotune(make(), TuningConfig(max_trials=12), evaluation)
    # Rounding to nearest is the first kind.
    assert evaluation.trials == len(RTNConfig.get_config_set_for_tuning().expand()) == 12
