"""Calls are recorded once, and any number of conversions use them."""

import pytest
import torch
from torch import Tensor, nn

from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.quantize import quantize
from incref.workflow.record import record_calls

DATA = [torch.randn(16, 32, generator=torch.Generator().manual_seed(i)) for i in range(2)]


class Block(nn.Module):
    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 32), nn.Linear(32, 32)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(torch.relu(self.up(x)))
        return x.add_(y) if self.in_place else x + y


def make(*, in_place: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(Block(in_place=in_place) for _ in range(2))).eval()


def feed(model: nn.Module, data: list[Tensor]) -> None:
    with torch.no_grad():
        for batch in data:
            model(batch.clone())


def codes(model: nn.Module) -> list[Tensor]:
    return [m.qweight.codes for m in model.modules() if isinstance(m, QuantLinear)]


@pytest.mark.parametrize("in_place", [False, True])
def test_gives_what_a_prepared_model_records_and_can_be_used_again(in_place: bool) -> None:
    model, config = make(in_place=in_place), GPTQConfig(bits=3)
    want = codes(quantize(make(), config, feed, (DATA,)))
    calls = record_calls(model, feed, (DATA,))
    for _ in range(2):
        got = codes(convert(model, config, inplace=False, calls=calls))
        assert len(got) == 4
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_the_model_keeps_no_hook_and_its_state() -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def run(copied: nn.Module) -> None:
        assert copied is not model
        copied.train()
        with torch.no_grad():
            copied(DATA[0].clone())
            next(copied.parameters()).zero_()

    calls = record_calls(model, run)
    assert len(calls.calls) == 1
    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert find_plan(model) is None


def test_a_prepared_model_has_its_own_calls() -> None:
    model = make()
    calls = record_calls(model, feed, (DATA,))
    with pytest.raises(ValueError, match="a prepared model has calls of its own"):
        convert(prepare(model, RTNConfig()), calls=calls)


def test_nothing_recorded_is_no_calibration_data() -> None:
    model = make()
    with pytest.raises(ValueError, match="there is none"):
        convert(model, GPTQConfig(), inplace=False, calls=record_calls(model, lambda _: None))
