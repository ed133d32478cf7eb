"""8-bit integers from a float model to a quantized one, and to a file and back."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.config.base import BaseConfig
from incref.config.int8_dynamic import DynamicQuantConfig
from incref.config.int8_static import INT8StaticQuantConfig
from incref.config.range_rule import RangeMethod
from incref.config.schemes import SCHEMES
from incref.errors import CalibrationWarning, LayerError
from incref.modules.conv import QuantConv2d
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.quantize import quantize
from incref.workflow.record import record_calls
from incref.workflow.save import save


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(F.relu(self.conv(x)).mean((2, 3)))
        return result


def net() -> Net:
    torch.manual_seed(0)
    return Net()


BATCHES = [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(i)) * (i + 1) for i in range(3)]
CONFIGS: dict[str, BaseConfig] = {
    **{method.value: INT8StaticQuantConfig(act_algo=method.value) for method in RangeMethod},
    "symmetric": INT8StaticQuantConfig(act_sym=True),
    "zero points": INT8StaticQuantConfig(w_sym=False, act_dtype="int8"),
    "per tensor": INT8StaticQuantConfig(w_granularity="per_tensor", w_algo="mse"),
    "dynamic": DynamicQuantConfig(),
    "per token": DynamicQuantConfig(act_granularity="per_token", w_sym=False, w_granularity="per_channel"),
    "conv left alone": INT8StaticQuantConfig().set_local("conv", INT8StaticQuantConfig(w_dtype="fp32")),
    "conv in bf16": INT8StaticQuantConfig().set_local("conv", INT8StaticQuantConfig(w_dtype="bf16")),
}


@torch.no_grad()
def calibrate(model: nn.Module) -> None:
    for batch in BATCHES:
        model(batch)


@torch.no_grad()
def test_scales_of_inputs_are_those_of_all_calibration_data() -> None:
    before = net()
    after = quantize(copy.deepcopy(before), INT8StaticQuantConfig(act_algo="minmax"), calibrate)
    assert isinstance(after, Net)
    assert isinstance(after.conv, QuantConv2d)
    assert isinstance(after.fc, QuantLinear)
    low, high = torch.cat(BATCHES).aminmax()
    scale = (high - low) / 255
    assert after.conv.input_scale is not None
    assert after.conv.input_zero_point is not None
    assert torch.equal(after.conv.input_scale, scale)
    assert torch.equal(after.conv.input_zero_point, torch.round(-low / scale).int())
    # The scale of a weight is that of Neural Compressor: amax / 127.5.
    assert torch.equal(after.fc.qweight.scale, before.fc.weight.abs().amax(1, keepdim=True) / 127.5)
    x = torch.round(BATCHES[0] * (1 / scale)).add(after.conv.input_zero_point).clamp(0, 255)
    acc = F.conv2d((x - after.conv.input_zero_point).double(), after.conv.qweight.codes.double(), padding=1)
    assert before.conv.bias is not None
    want = (acc.float() * scale) * after.conv.qweight.scale.view(8, 1, 1) + before.conv.bias.view(8, 1, 1)
    assert torch.equal(after.conv(BATCHES[0]), want)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_every_configuration_is_close_and_comes_back(config: BaseConfig, tmp_path: Path) -> None:
    before = net()
    after = quantize(copy.deepcopy(before), config, calibrate)
    x = torch.cat(BATCHES)
    want, got = before(x), after(x)
    # Eight bits of input and weight: 1 / 255 of the range of each, and tails that may be clipped.
    assert 0 < float((got - want).norm() / want.norm()) < 0.1
    save(after, tmp_path / "saved")
    again = load(tmp_path / "saved", net())
    assert torch.equal(again(x), got)
    assert str(again) == str(after)


@torch.no_grad()
def test_recorded_calls_calibrate_too() -> None:
    before = net()
    calls = record_calls(before, calibrate)
    at_once = quantize(copy.deepcopy(before), INT8StaticQuantConfig(act_algo="mse"), calibrate)
    later = convert(before, INT8StaticQuantConfig(act_algo="mse"), inplace=False, calls=calls)
    assert torch.equal(at_once(BATCHES[0]), later(BATCHES[0]))
    prepared = prepare(before, INT8StaticQuantConfig(act_algo="mse"))
    calibrate(prepared)
    assert torch.equal(convert(prepared, inplace=False)(BATCHES[0]), later(BATCHES[0]))
    assert find_plan(prepared) is not None


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="conv is quantized with the help of calibration data, and there is none"):
        quantize(net(), INT8StaticQuantConfig())
    with pytest.raises(LayerError, match="conv: the scale of its input is unknown: a range needs finite values"):
        quantize(net(), INT8StaticQuantConfig(), lambda model: model(BATCHES[0] * torch.inf))
    unused = nn.ModuleDict({"used": nn.Sequential(nn.Linear(3, 3)), "unused": nn.Linear(3, 3)})
    with pytest.warns(CalibrationWarning, match="unused was never called during calibration"):
        after = quantize(unused, INT8StaticQuantConfig(), lambda model: model["used"](torch.ones(1, 3)))  # type: ignore[index]  # a ModuleDict
    assert after["unused"].input_scale == 1  # type: ignore[index, union-attr]  # likewise


def test_plan() -> None:
    shown = str(INT8StaticQuantConfig().plan(net()))
    assert shown.splitlines()[1].startswith("fc    5 x 8          int8, one scale a row, input uint8, static")


@torch.no_grad()
def test_named_schemes() -> None:
    for name in ("int8_static", "int8_dynamic"):
        model = nn.Sequential(nn.Linear(16, 8))
        x = torch.randn(4, 16)
        want = model(x)
        after = quantize(model, SCHEMES[name], lambda prepared: prepared(x))  # noqa: B023  # called at once
        assert isinstance(after[0], QuantLinear)  # type: ignore[index]  # an nn.Sequential
        assert float((after(x) - want).norm() / want.norm()) < 0.02
