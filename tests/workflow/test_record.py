"""Calls are recorded once, and any number of conversions use them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from incref.calibration.blocks import find_blocks
from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.quantize import quantize
from incref.workflow.record import record_calls
from tests.workflow.test_one_pass import TOKENS, transformers_model

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


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "phi", "gemma3"])
@pytest.mark.parametrize("true_sequential", [False, True])
def test_calls_that_are_only_recorded_give_the_same(kind: str, true_sequential: bool) -> None:
    # The first layer is a head, or in front of the blocks.
    config: BaseConfig = GPTQConfig(group_size=8, true_sequential=true_sequential, quant_lm_head=True)
    model = transformers_model(kind)
    computed: list[int] = []

    def count(*_: object) -> None:
        computed.append(1)

    def run(prepared: nn.Module, *, record_only: bool) -> None:
        last = prepared.get_submodule(find_blocks(prepared)[-1])
        handle = last.register_forward_hook(count)
        with torch.no_grad():
            for one in TOKENS:
                assert (prepared(one) is None) == record_only
        handle.remove()

    want = quantize(copy.deepcopy(model), config, lambda m: run(m, record_only=False))
    assert len(computed) == len(TOKENS)
    got = quantize(copy.deepcopy(model), config, lambda m: run(m, record_only=True), record_only=True)
    assert len(computed) == len(TOKENS) + 1
    calls = record_calls(model, lambda m: run(m, record_only=True), record_only=True)
    again = convert(model, config, inplace=False, calls=calls)
    for other in (got, again):
        assert all(torch.equal(a, b) for a, b in zip(codes(want), codes(other), strict=True))
    with torch.no_grad():
        assert torch.equal(want(TOKENS[0])[0], got(TOKENS[0])[0])


def test_what_is_measured_in_calls_needs_all_of_them() -> None:
    config = GPTQConfig(group_size=8).set_local("0.up", FP8Config(scale_method="maxabs_hw"))
    prepared = prepare(make(), config, record_only=True)
    with torch.no_grad():
        assert isinstance(prepared(DATA[0]), Tensor)


def test_a_model_that_needs_no_calls_is_not_stopped() -> None:
    assert isinstance(prepare(make(), RTNConfig(), record_only=True)(DATA[0]), Tensor)
