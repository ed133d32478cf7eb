import inspect

import torch
from torch import Tensor, nn

import incref
from incref.autotune.autotune import autotune
from incref.autotune.tune import tune
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig

X = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 32), nn.Dropout(), nn.Linear(32, 8)).eval()


def energy(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return -float((model(x) - make()(x)).square().mean())


def feed(model: nn.Module, x: Tensor) -> None:
    model(x)


def test_has_the_arguments_of_autotune() -> None:
    assert list(inspect.signature(tune).parameters.values()) == list(inspect.signature(autotune).parameters.values())


def test_the_model_and_the_search_are_as_they_were() -> None:
    model, space = make(), RTNConfig(bits=[2, 8]).set_local("2", RTNConfig(bits=4))
    config = incref.TuningConfig([space, GPTQConfig(quant_lm_head=False)], max_trials=50)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    described = [space.to_dict(), repr(config)]
    result = tune(model, config, energy, X, feed, X)
    assert len(result.trials) == 3
    assert [space.to_dict(), repr(config)] == described
    assert config.max_trials == 50
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [type(module) for module in model] == [nn.Linear, nn.Dropout, nn.Linear]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    shared = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not shared & {tensor.data_ptr() for tensor in result.model.state_dict().values()}


def test_the_result_shows_everything() -> None:
    result = tune(make(), incref.TuningConfig(RTNConfig(bits=[2, 8]), tolerable_loss=0.0), energy, X)
    assert result.baseline.values == (0.0,)
    assert result.baseline.size is not None
    assert result.baseline.size.bits_per_weight == 32.0
    assert not result.is_met
    assert result.best is result.trials[1]
    assert energy(result.model, X) == result.best.score
    assert [trial.number for trial in result.front] == [1, 2]
    assert result.verdict() in result.table()
    assert "NO trial meets that; the best is trial 2" in result.verdict()
    assert result.table().count("\n") == 4
