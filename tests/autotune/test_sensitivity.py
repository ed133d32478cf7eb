import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from incref.autotune.layer_options import measure_options
from incref.autotune.metric import Metric
from incref.autotune.sampler import Search
from incref.autotune.sensitivity import SensitivitySampler
from incref.autotune.tune import tune
from incref.autotune.tuning_config import TuningConfig
from incref.checkpoints.size import measure_size
from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig
from incref.workflow.convert import convert

X = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
CONFIGS = (RTNConfig(bits=8), RTNConfig(bits=4), RTNConfig(bits=2))
ELEMENTS = 3 * 32 * 32


def make() -> nn.Module:
    """Three layers, the weights of which are the easier to quantize the later they come."""
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32) for _ in range(3)]
    with torch.no_grad():
        # One large weight in every group, and in the last layer weights that are codes of 2 bits.
        layers[0].weight[:, 0] *= 20
        layers[2].weight.copy_(layers[2].weight.sign())
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2]).eval()


def search(*configs: QuantConfig) -> Search:
    model = make()

    def quantize(config: QuantConfig) -> nn.Module:
        return convert(model, config, inplace=False)

    def feed(fed: nn.Module) -> None:
        with torch.no_grad():
            fed(X)

    return Search(model=model, configs=configs or CONFIGS, trials=[], quantize=quantize, feed=feed)


def bits_of(config: QuantConfig) -> list[int]:
    """Bits of the codes of every layer; 32 if it is left alone."""
    assert isinstance(config, BaseConfig)
    resolved = config.resolve(make())
    return [resolved[name].weight.fmt.bits if name in resolved else 32 for name in ("0", "2", "4")]


def predicted(config: QuantConfig) -> float:
    options = measure_options(search())
    by_bits = [{8: choices[0], 4: choices[1], 2: choices[2]} for choices in options.values()]
    return sum(choices[bits].loss for choices, bits in zip(by_bits, bits_of(config), strict=True))


# Every group of 32 has a float32 scale: one bit more a weight.
@pytest.mark.parametrize("budget", [9.0, 7.0, 6.0, 5.0, 4.0, 3.5, 3.0])
def test_nothing_that_keeps_to_the_size_loses_less(budget: float) -> None:
    (config,) = SensitivitySampler(size_budget=budget).propose(search())
    size = measure_size(convert(make(), config))
    assert size.bits_per_weight <= budget
    assert 8 * size.weight_bytes == (sum(bits_of(config)) + 3) * 32 * 32
    options = list(measure_options(search()).values())
    every = [
        math.fsum(option.loss for option in chosen)
        for chosen in itertools.product(*options)
        if sum(option.bits for option in chosen) <= size.bits_per_weight * ELEMENTS
    ]
    assert predicted(config) == pytest.approx(min(every), rel=1e-12)


def test_the_layer_that_needs_it_keeps_more_bits() -> None:
    (config,) = SensitivitySampler(size_budget=5.7).propose(search())
    assert bits_of(config) == [8, 4, 2]


def test_nothing_smaller_keeps_to_the_loss() -> None:
    sampled = SensitivitySampler(points=100).propose(search())
    by_loss = sorted((predicted(config), bits_of(config)) for config in sampled)
    for loss, bits in by_loss:
        (config,) = SensitivitySampler(loss_budget=loss * (1 + 1e-12)).propose(search())
        assert bits_of(config) == bits


def test_without_a_budget_goes_from_the_smallest_to_the_best() -> None:
    whole = [bits_of(config) for config in SensitivitySampler(points=100).propose(search())]
    assert whole[0] == [2, 2, 2]
    assert [sum(bits) for bits in whole] == sorted(sum(bits) for bits in whole)
    assert [bits_of(config) for config in SensitivitySampler(points=2).propose(search())] == [whole[0], whole[-1]]
    assert [bits_of(config) for config in SensitivitySampler(points=1).propose(search())] == [whole[0]]


def test_a_layer_can_be_left_alone() -> None:
    (config,) = SensitivitySampler(size_budget=15.0).propose(search(*CONFIGS, RTNConfig(dtype="fp32")))
    # 32 bits without a scale, and 9 and 3 with one.
    assert bits_of(config) == [32, 8, 2]
    assert list(config.resolve(make())) == ["2", "4"]


def test_is_deterministic() -> None:
    first, second = (list(SensitivitySampler().propose(search())) for _ in range(2))
    assert first == second


def test_what_it_proposes_can_be_kept_in_a_file() -> None:
    (config,) = SensitivitySampler(size_budget=5.7).propose(search())
    assert isinstance(config, RTNConfig)
    assert RTNConfig.from_dict(config.to_dict()).resolve(make()) == config.resolve(make())


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"size_budget": 2.5}, r"size_budget must be at least 3 bits a weight, got 2.5"),
        ({"loss_budget": 0.0}, r"loss_budget must be at least .*, got 0.0"),
    ],
)
def test_a_budget_that_nothing_keeps_to_is_refused(budgets: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(SensitivitySampler(**budgets).propose(search()))


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"size_budget": 4.0, "loss_budget": 0.1}, "size_budget and loss_budget are two goals; set one of them"),
        ({"size_budget": -1.0}, "size_budget must be finite and at least 0, got -1.0"),
        ({"loss_budget": math.nan}, "loss_budget must be finite and at least 0, got nan"),
        ({"points": 0}, "points must be at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(budgets: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SensitivitySampler(**budgets)


def test_there_has_to_be_something_to_mix() -> None:
    with pytest.raises(ValueError, match="no configuration quantizes a layer of the model"):
        list(SensitivitySampler().propose(search(RTNConfig(dtype="fp32"))))


def test_finds_a_model_that_is_smaller_than_any_uniform_one_that_is_good_enough() -> None:
    model = make()
    y = model(X).detach()

    def error(quantized: nn.Module, x: Tensor) -> float:
        with torch.no_grad():
            return float((quantized(x) - y).square().mean() / y.square().mean())

    metric = Metric(error, higher_is_better=False)
    options = {"tolerable_loss": 0.01, "is_relative": False}
    uniform = tune(model, TuningConfig(RTNConfig(bits=[2, 3, 4, 6, 8]), **options), metric, (X,))
    mixed_config = TuningConfig(RTNConfig(bits=[2, 3, 4, 6, 8]), SensitivitySampler(points=100), **options)
    mixed = tune(model, mixed_config, metric, (X,))
    assert uniform.is_met
    assert mixed.is_met
    assert uniform.best.size is not None
    assert mixed.best.size is not None
    assert mixed.best.size.bytes < uniform.best.size.bytes


def test_calibration_data_is_used_for_algorithms_and_losses() -> None:
    calls = []

    def calibrate(model: nn.Module) -> None:
        calls.append(model)
        model(X)

    def never(model: nn.Module) -> float:
        return float(next(model.parameters()).numel() > 0)

    config = TuningConfig(GPTQConfig(bits=[2, 4]), SensitivitySampler(size_budget=4.0))
    result = tune(make(), config, never, run_fn=calibrate)
    # Recorded once for GPTQ, and once for the losses of each configuration.
    assert len(calls) == 1 + 2
    assert result.best.size is not None
    assert result.best.size.bits_per_weight <= 4.0
