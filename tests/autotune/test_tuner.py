"""The search: what is tried, when it ends, and what is kept."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from incref.autotune.metric import EvalFn, Metric
from incref.autotune.result import TuningResult
from incref.autotune.sampler import Sampler, Search
from incref.autotune.tune import tune
from incref.autotune.tuning_config import TuningConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.mx import MXQuantConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.errors import TuningError
from incref.modules.linear import QuantLinear
from incref.nn.matmul import Matmul

BITS = [2, 3, 4, 5, 6, 8]


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 8))


def bits(model: nn.Module) -> int:
    """Bits of a code; 32 for the float model."""
    layer = model.get_submodule("0")
    return layer.qweight.spec.fmt.bits if isinstance(layer, QuantLinear) else 32


class Evaluation:
    """Gives every width of codes its value, and counts."""

    def __init__(self, values: dict[int, object], baseline: object = 1.0) -> None:
        self.values = {32: baseline, **values}
        self.seen: list[int] = []

    def __call__(self, model: nn.Module) -> object:
        width = bits(model)
        self.seen.append(width)
        value = self.values[width]
        if isinstance(value, BaseException):
            raise value
        return value


def run(evaluation: EvalFn, **fields: object) -> TuningResult:
    config_set = fields.pop("config_set", RTNConfig(bits=BITS))
    return tune(make(), TuningConfig(config_set, **fields), evaluation)


def test_the_first_that_is_good_enough_ends_the_search() -> None:
    evaluation = Evaluation({2: 0.5, 3: 0.75, 4: 0.875, 5: 1.0}, baseline=1.0)
    result = run(evaluation, tolerable_loss=0.125)
    assert evaluation.seen == [32, 2, 3, 4]
    assert [trial.is_met for trial in result.trials] == [False, False, True]
    assert (result.is_met, result.best.number, bits(result.model)) == (True, 3, 4)
    assert result.best.config == RTNConfig(bits=4)


def test_else_the_best_of_all_is_given_the_first_among_equals() -> None:
    evaluation = Evaluation({2: 0.1, 3: 0.7, 4: 0.7, 5: 0.2, 6: 0.3, 8: 0.4})
    result = run(evaluation)
    assert (result.is_met, result.best.number, bits(result.model)) == (False, 2, 3)
    assert len(result.trials) == len(BITS)


def test_all_can_be_tried_for_the_smallest_that_is_good_enough() -> None:
    evaluation = Evaluation({8: 1.0, 6: 0.5, 4: 0.99, 3: 0.5})
    result = run(evaluation, config_set=RTNConfig(bits=[8, 6, 4, 3]), stops_when_met=False)
    assert evaluation.seen == [32, 8, 6, 4, 3]
    assert (result.is_met, bits(result.model)) == (True, 4)
    assert [trial.number for trial in result.front] == [4, 3, 1]


def test_less_can_be_better() -> None:
    evaluation = Evaluation({2: 9.0, 3: 4.5, 4: 4.25}, baseline=4.0)
    result = run(Metric(evaluation, higher_is_better=False), tolerable_loss=0.0625)
    assert (result.is_met, bits(result.model)) == (True, 4)


def test_several_metrics_are_weighed() -> None:
    accuracy = Evaluation({2: 0.5, 3: 0.75}, baseline=1.0)
    loss = Evaluation({2: 2.0, 3: 3.0}, baseline=2.0)
    metrics = [Metric(accuracy, weight=4.0), Metric(loss, higher_is_better=False)]
    result = run(metrics, config_set=RTNConfig(bits=[2, 3]), tolerable_loss=0.0)
    # 4 * 0.5 - 2 and 4 * 0.75 - 3, against 4 - 2.
    assert [trial.score for trial in result.trials] == [0.0, 0.0]
    assert result.objective.target == 2.0
    assert result.best.number == 1


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        (RuntimeError("out of luck"), "RuntimeError: out of luck"),
        (float("nan"), "ValueError: Evaluation must return a finite number, got nan"),
        (None, "TypeError: Evaluation must return a number, got None"),
    ],
)
def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(value: object, failure: str) -> None:
    result = run(Evaluation({2: value, 3: 1.0}))
    assert [trial.failure for trial in result.trials] == [failure, ""]
    assert (result.trials[0].score, result.trials[0].size, result.trials[0].is_met) == (None, None, False)
    assert (result.is_met, bits(result.model)) == (True, 3)


def test_a_configuration_that_does_not_fit_is_a_failed_trial() -> None:
    unfit = RTNConfig().set_local("nowhere", RTNConfig())
    result = run(Evaluation({8: 1.0}), config_set=[unfit, GPTQConfig(), RTNConfig(bits=8)])
    assert result.trials[0].failure.startswith("ValueError: every rule must match a layer, and 'nowhere' matches none")
    assert result.trials[1].failure.startswith("ValueError: the configuration needs calibration data; pass run_fn")
    assert result.best.number == 3


def test_without_a_model_there_is_no_result() -> None:
    evaluation = Evaluation({2: RuntimeError("no"), 3: float("inf")})
    with pytest.raises(TuningError, match=r"no trial gave a model \(1: RuntimeError: no; 2: ValueError: .* got inf\)"):
        run(evaluation, config_set=RTNConfig(bits=[2, 3]))


def test_what_the_float_model_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="no data"):
        run(Evaluation({}, baseline=RuntimeError("no data")))
    with pytest.raises(ValueError, match="must return a finite number, got nan"):
        run(Evaluation({}, baseline=float("nan")))


def test_to_stop_the_program_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Evaluation({2: KeyboardInterrupt()}))


@pytest.mark.parametrize("max_trials", [1, 3])
def test_no_more_than_max_trials(max_trials: int) -> None:
    evaluation = Evaluation(dict.fromkeys(BITS, 0.0))
    assert len(run(evaluation, max_trials=max_trials).trials) == max_trials
    assert len(evaluation.seen) == 1 + max_trials


@pytest.mark.parametrize(("budget", "count"), [(0.0, 1), (25.0, 2), (35.0, 3), (None, 6)])
def test_no_trial_begins_after_the_time_is_over(
    budget: float | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Slow(Evaluation):
        def __call__(self, model: nn.Module) -> object:
            now[0] += 10.0
            return super().__call__(model)

    result = run(Slow(dict.fromkeys(BITS, 0.0)), time_budget=budget)
    assert len(result.trials) == count
    assert result.best.measured.eval_seconds == 10.0


def test_what_gives_the_same_model_is_tried_once() -> None:
    evaluation = Evaluation({4: 0.5, 8: 0.25})
    same = [RTNConfig(), RTNConfig(dtype="int4", bits=8), RTNConfig(use_layer_wise=False), RTNConfig(bits=8)]
    result = run(evaluation, config_set=[*same, RTNConfig()])
    assert evaluation.seen == [32, 4, 8]
    assert [trial.config for trial in result.trials] == [same[0], same[3]]


def test_named_schemes_are_candidates() -> None:
    evaluation = Evaluation({4: 0.5, 8: 1.0})
    result = run(evaluation, config_set=[SCHEMES["int4_g32"], SCHEMES["int8"]])
    assert (result.best.config, bits(result.model)) == (SCHEMES["int8"], 8)


def test_a_sampler_sees_what_came_of_its_proposals() -> None:
    class Bisection(Sampler):
        def propose(self, search: Search) -> Iterator[QuantConfig]:
            low, high = 0, len(search.configs) - 1
            while low < high:
                middle = (low + high) // 2
                yield search.configs[middle]
                low, high = (low, middle) if search.trials[-1].is_met else (middle + 1, high)

    evaluation = Evaluation({width: 1.0 if width >= 5 else 0.0 for width in BITS})
    result = run(evaluation, sampler=Bisection, stops_when_met=False)
    assert evaluation.seen == [32, 4, 6, 5]
    assert bits(result.model) == 5


def test_the_float_model_and_the_best_are_all_that_is_kept() -> None:
    values: dict[int, float] = {2: 0.1, 3: 0.5, 4: 0.4, 5: 0.3, 6: 0.2, 8: 0.1}
    made: list[weakref.ref[nn.Module]] = []
    alive: list[list[int]] = []

    def evaluation(model: nn.Module) -> float:
        made.append(weakref.ref(model))
        alive.append([bits(kept) for ref in made if (kept := ref()) is not None])
        return {32: 1.0, **values}[bits(model)]

    result = run(evaluation)
    # Beside the one that is evaluated, the best.
    assert alive == [[32], [2], [2, 3], [3, 4], [3, 5], [3, 6], [3, 8]]
    assert result.model is made[2]()


@pytest.fixture
def journal(tmp_path: Path) -> Callable[..., TuningResult]:
    def resume(evaluation: Evaluation, **fields: object) -> TuningResult:
        return run(evaluation, journal=tmp_path / "journal", **fields)

    return resume


def test_a_search_that_was_stopped_goes_on_where_it_was(journal: Callable[..., TuningResult]) -> None:
    values: dict[int, object] = {2: 0.1, 3: 0.5, 4: 0.3, 5: 0.2, 6: 0.4, 8: 0.1}
    first = Evaluation({**values, 5: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        journal(first)
    assert first.seen == [32, 2, 3, 4, 5]
    second = Evaluation(values)
    result = journal(second)
    assert second.seen == [5, 6, 8]
    assert [trial.is_recalled for trial in result.trials] == [True, True, True, False, False, False]
    whole = run(Evaluation(values))
    assert [trial.values for trial in result.trials] == [trial.values for trial in whole.trials]
    assert result.best.number == whole.best.number == 2
    # The best one is of the earlier run.
    x = torch.ones(1, 32)
    assert torch.equal(result.model(x), whole.model(x))


def test_a_trial_that_failed_is_tried_again(journal: Callable[..., TuningResult]) -> None:
    journal(Evaluation({2: RuntimeError("no room"), 3: 1.0}))
    again = Evaluation({2: 1.0, 3: 1.0})
    assert journal(again).best.number == 1
    assert again.seen == [2]


def test_a_journal_serves_another_tolerance(journal: Callable[..., TuningResult]) -> None:
    values: dict[int, object] = {2: 0.5, 3: 0.75, 4: 0.875}
    assert journal(Evaluation(values), tolerable_loss=0.25).best.number == 2
    again = Evaluation(values)
    assert journal(again, tolerable_loss=0.125).best.number == 3
    assert again.seen == [4]


def test_configurations_that_differ_in_products_alone_are_both_tried(tmp_path: Path) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.product = Matmul()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.product(x, x.T)
            return result

    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))

    def energy(model: nn.Module) -> float:
        return float(model(x).square().sum())

    def feed(model: nn.Module) -> None:
        model(x)

    fp8 = FP8Config(scale_method=["maxabs_pow2", "maxabs_arbitrary"])  # type: ignore[arg-type]  # a search space
    mx = MXQuantConfig(act_dtype=["fp4", "fp8_e4m3"])  # type: ignore[arg-type]  # likewise
    config = TuningConfig([mx, fp8], stops_when_met=False, journal=tmp_path)
    result = tune(Product(), config, energy, run_fn=feed)
    assert len({trial.values for trial in result.trials}) == 4
    assert not any(trial.failure for trial in result.trials)
    again = tune(Product(), config, energy, run_fn=feed)
    assert [trial.values for trial in again.trials] == [trial.values for trial in result.trials]
    assert all(trial.is_recalled for trial in again.trials)
