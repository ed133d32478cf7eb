import torch
from torch import Tensor, nn

from incref.autotune.metric import Metric
from incref.autotune.runner import Runner
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.modules.linear import QuantLinear
from incref.workflow.quantize import quantize

X = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))


def energy(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float(model(x).square().sum())


class Calibration:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, model: nn.Module, x: Tensor) -> None:
        self.count += 1
        model(x)


def runner(model: nn.Module, run_fn: Calibration | None = None) -> Runner:
    return Runner(model, (Metric(energy),), (X,), run_fn, (X,))


def test_calibration_is_run_once_and_only_if_it_is_needed() -> None:
    calibration = Calibration()
    one = runner(make(), calibration)
    one.quantize(RTNConfig())
    assert calibration.count == 0
    for config in (GPTQConfig(bits=3), GPTQConfig(bits=4, act_order=True)):
        got, want = one.quantize(config), quantize(make(), config, calibration, (X,))
        assert torch.equal(got(X), want(X))
    assert calibration.count == 1 + 2


def test_calibration_that_is_needed_has_to_be_there() -> None:
    measured, quantized = runner(make()).measure(GPTQConfig())
    assert quantized is None
    assert measured.failure.startswith("ValueError: the configuration needs calibration data; pass run_fn")


def test_measures_value_size_and_time() -> None:
    measured, quantized = runner(make()).measure(RTNConfig(bits=8, group_size=-1))
    assert isinstance(quantized, nn.Sequential)
    assert isinstance(quantized[0], QuantLinear)
    assert measured.values == (energy(quantized, X),)
    assert measured.size is not None
    # A byte for each of 40 x 32 weights, and a float32 scale for each of 40 rows.
    assert measured.size.weight_bytes == 40 * 32 + 40 * 4
    assert measured.quantize_seconds > 0
    assert measured.eval_seconds > 0


def test_the_float_model_is_measured_in_a_copy() -> None:
    model = make()

    def spoil(given: nn.Module) -> float:
        given.half()
        with torch.no_grad():
            for parameter in given.parameters():
                parameter.zero_()
        return 1.0

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    one = Runner(model, (Metric(spoil),), None, None, None)
    assert one.measure_float().values == (1.0,)
    assert one.measure(RTNConfig())[0].values == (1.0,)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_feeds_by_calibration_or_else_by_evaluation() -> None:
    calibration, fed = Calibration(), []

    def evaluation(model: nn.Module) -> float:
        fed.append(model)
        return 0.0

    model = make()
    Runner(model, (Metric(evaluation),), None, calibration, (X,)).feed(model)
    assert (calibration.count, fed) == (1, [])
    Runner(model, (Metric(evaluation), Metric(evaluation)), None, None, None).feed(model)
    assert fed == [model, model]
