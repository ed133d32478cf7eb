import pytest
import torch
from torch import nn

from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.quantize import quantize

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))


def test_is_prepare_and_convert() -> None:
    assert torch.equal(quantize(model(), RTNConfig())(X), convert(prepare(model(), RTNConfig()))(X))


def test_runs_the_model_between_them() -> None:
    seen: list[tuple[object, ...]] = []

    def run(prepared: nn.Module, *args: object) -> None:
        assert find_plan(prepared) is not None
        seen.append(args)

    quantize(model(), RTNConfig(), run)
    quantize(model(), RTNConfig(), run, (1, 2))
    quantize(model(), RTNConfig(), run_fn=run, run_args=[3])
    quantize(model(), RTNConfig(), run, "data")
    assert seen == [(), (1, 2), (3,), ("data",)]


@pytest.mark.parametrize("inplace", [True, False])
def test_inplace(inplace: bool) -> None:
    m = model()
    quantized = quantize(m, SCHEMES["mxfp4"], inplace=inplace)
    assert (quantized is m) == inplace
    assert isinstance(m[0], QuantLinear) == inplace
    assert find_plan(m) is None


def test_progress() -> None:
    calls: list[str] = []
    quantize(model(), {"rtn": {"bits": 8}}, progress=lambda name, _done, _total: calls.append(name))
    assert calls == ["0", "2"]


def test_more_bits_are_closer() -> None:
    want = model()(X)
    errors = [float((quantize(model(), RTNConfig(bits=bits))(X) - want).detach().norm()) for bits in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
