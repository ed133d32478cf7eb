"""FP8 with measured scales, on any machine."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from incref.config.fp8 import FP8Config
from incref.config.fp8_methods import SCALE_METHODS, TARGETS
from incref.config.rtn import RTNConfig
from incref.errors import CalibrationWarning, CheckpointError, LayerError
from incref.formats import ScaleArithmetic
from incref.modules.conv import QuantConv2d
from incref.modules.layer import QuantLayer
from incref.modules.linear import QuantLinear
from incref.ops.decode import decode
from incref.ops.quantize_float import quantize_float
from incref.workflow.convert import convert
from incref.workflow.finalize_calibration import finalize_calibration
from incref.workflow.load import load
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.quantize import quantize
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


@torch.no_grad()
def calibrate(model: nn.Module) -> None:
    for batch in BATCHES:
        model(batch)


def config(tmp_path: Path, **fields: object) -> FP8Config:
    return FP8Config(dump_stats_path=str(tmp_path / "measure"), **fields)  # type: ignore[arg-type]  # given by name


@torch.no_grad()
def test_static_scales_are_those_of_all_calibration_data(tmp_path: Path) -> None:
    before = net()
    after = quantize(copy.deepcopy(before), config(tmp_path, target="gaudi2", scale_method="maxabs_pow2"), calibrate)
    assert isinstance(after, Net)
    assert isinstance(after.conv, QuantConv2d)
    assert isinstance(after.fc, QuantLinear)
    amax = max(batch.abs().max().item() for batch in BATCHES)
    # 240 is the largest value of Gaudi 2, of which inputs may take a quarter and weights a half.
    scale = 2.0 ** torch.tensor(amax / 60).log2().ceil()
    assert after.conv.input_scale is not None
    assert torch.equal(after.conv.input_scale, scale)
    w = before.conv.weight
    w_scale = 2.0 ** (w.abs().max() / 120).log2().ceil()
    assert torch.equal(after.conv.qweight.scale, w_scale)
    # PyTorch's E4M3 has the values of Gaudi 2's up to 240.
    x_values = (BATCHES[0] / scale).clamp(-240, 240).to(torch.float8_e4m3fn).float() * scale
    w_values = (w / w_scale).clamp(-240, 240).to(torch.float8_e4m3fn).float() * w_scale
    want = F.conv2d(x_values, w_values, before.conv.bias, padding=1)
    assert torch.equal(after.conv(BATCHES[0]), want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", SCALE_METHODS)
@torch.no_grad()
def test_every_method_runs_on_every_target(tmp_path: Path, method: str, target: str) -> None:
    before = net()
    want = before(BATCHES[0])
    # Blocks of weights are those of matrices.
    layers = ("fc",) if "blocks" in method else ("conv", "fc")
    for fmt in ("E4M3", "E5M2"):
        fp8 = config(tmp_path, scale_method=method, target=target, fp8_config=fmt, allowlist={"names": layers})
        after = quantize(copy.deepcopy(before), fp8, calibrate)
        got = after(BATCHES[0])
        assert [name for name, module in after.named_children() if isinstance(module, QuantLayer)] == list(layers)
        relative = float((got - want).norm() / want.norm())
        # Every format has at least two fraction bits. The fixed scale of Gaudi 3, 128, makes weights subnormal.
        assert 0 < relative < (1.0 if method == "hw_aligned_single_scale" else 0.25)


@torch.no_grad()
def test_measuring_and_quantizing_apart(tmp_path: Path) -> None:
    model = net()
    measured = prepare(copy.deepcopy(model), config(tmp_path, mode="MEASURE"))
    calibrate(measured)
    finalize_calibration(measured)
    with pytest.raises(ValueError, match="call finalize_calibration, then convert the float model"):
        convert(measured)
    found = json.loads((tmp_path / "measure_maxabs.json").read_text())
    assert list(found["input_amax"]) == ["conv", "fc"]
    apart = convert(copy.deepcopy(model), config(tmp_path, mode="QUANTIZE"))
    at_once = quantize(copy.deepcopy(model), config(tmp_path), calibrate)
    assert torch.equal(apart(BATCHES[0]), at_once(BATCHES[0]))
    prepared = convert(prepare(copy.deepcopy(model), config(tmp_path, mode="QUANTIZE")))
    assert torch.equal(prepared(BATCHES[0]), at_once(BATCHES[0]))


@torch.no_grad()
def test_auto_may_write_too_and_go_on(tmp_path: Path) -> None:
    prepared = prepare(net(), config(tmp_path))
    calibrate(prepared)
    finalize_calibration(prepared)
    assert (tmp_path / "measure_maxabs.json").is_file()
    converted = convert(prepared, inplace=False)
    assert find_plan(prepared) is not None
    assert torch.equal(converted(BATCHES[0]), convert(prepared)(BATCHES[0]))
    assert not any(module._forward_pre_hooks for module in prepared.modules())


@torch.no_grad()
def test_dynamic_scales_need_no_calibration(tmp_path: Path) -> None:
    model = net()
    converted = convert(
        copy.deepcopy(model), config(tmp_path, dynamic_quantization=True, scale_method="maxabs_pcs_pow2")
    )
    assert isinstance(converted, Net)
    x = torch.randn(3, 8) * torch.tensor([[1e-3], [1.0], [1e3]])
    got, want = converted.fc(x), model.fc(x)
    # Every token has its own scale: half a unit in the last place of each factor, or half the least subnormal, 2^-10 of
    # a scale that is less than the largest value.
    w = model.fc.weight
    x_error, w_error = (2.0**-4 * one.abs() + 2.0**-10 * one.abs().amax(1, keepdim=True) for one in (x, w))
    bound = x_error @ w.abs().T + x.abs() @ w_error.T + x_error @ w_error.T
    assert bool(((got - want).abs() <= bound).all())


def test_saved_and_loaded(tmp_path: Path) -> None:
    for dynamic in (False, True):
        converted = quantize(net(), config(tmp_path, dynamic_quantization=dynamic), calibrate)
        save(converted, tmp_path / f"saved{dynamic}")
        loaded = load(tmp_path / f"saved{dynamic}", net())
        assert ("conv.input_scale" in loaded.state_dict()) != dynamic
        assert torch.equal(loaded(BATCHES[0]), converted(BATCHES[0]))


def test_mixed_with_other_configurations(tmp_path: Path) -> None:
    mixed = config(tmp_path).set_local("fc", RTNConfig(bits=8))
    converted = quantize(net(), mixed, calibrate)
    assert isinstance(converted, Net)
    assert isinstance(converted.conv, QuantConv2d)
    assert isinstance(converted.fc, QuantLinear)
    assert converted.fc.activation is None


def test_needs_calibration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="conv is quantized with the help of calibration data, and there is none"):
        convert(prepare(net(), config(tmp_path)))
    with pytest.raises(CheckpointError, match="feed it calibration data and call finalize_calibration first"):
        convert(net(), config(tmp_path, mode="QUANTIZE"))
    with pytest.raises(ValueError, match="prepare the model with an FP8Config first"):
        finalize_calibration(net())
    with pytest.raises(ValueError, match="the prepared model was not called"):
        finalize_calibration(prepare(net(), config(tmp_path)))


HEAD = '"format": "incref measurements", "version": 1'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "incref measurements", "version": 2, "input_amax": {}}',
        f'{{{HEAD}, "input_amax": {{"conv": "1"}}}}',
        f'{{{HEAD}, "input_amax": {{"conv": -1.0}}}}',
        f'{{{HEAD}, "input_amax": {{"conv": NaN}}}}',
    ],
)
def test_damaged_measurements(tmp_path: Path, content: str) -> None:
    (tmp_path / "measure_maxabs.json").write_text(content)
    with pytest.raises(CheckpointError, match="is not what finalize_calibration writes; measure again"):
        convert(net(), config(tmp_path, mode="QUANTIZE"))


def test_layers_that_were_not_measured(tmp_path: Path) -> None:
    measured = prepare(net(), config(tmp_path, blocklist={"names": ["fc"]}))
    calibrate(measured)
    finalize_calibration(measured)
    with pytest.raises(CheckpointError, match="says nothing of fc; measure again"):
        convert(net(), config(tmp_path, mode="QUANTIZE"))


def test_data_that_is_not_finite_names_the_layer(tmp_path: Path) -> None:
    prepared = prepare(net(), config(tmp_path))
    prepared(torch.full((1, 3, 8, 8), torch.inf))
    with pytest.raises(ValueError, match="conv: calibration data made its input NaN or Inf"):
        finalize_calibration(prepared)
    with pytest.raises(LayerError, match="conv: calibration data made its input NaN or Inf"):
        convert(prepared)


def test_layers_that_were_never_called(tmp_path: Path) -> None:
    class Unused(Net):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(4, 4)

    with pytest.warns(CalibrationWarning, match="unused was never called"):
        converted = quantize(Unused(), config(tmp_path), calibrate)
    assert converted.get_buffer("unused.input_scale").item() == 1


def test_channels_are_written_beside(tmp_path: Path) -> None:
    per_channel = config(tmp_path, observer="maxabs_per_channel")
    prepared = prepare(net(), per_channel)
    calibrate(prepared)
    finalize_calibration(prepared)
    described = json.loads((tmp_path / "measure_maxabs_per_channel.json").read_text())
    tensors = load_file(tmp_path / "measure_maxabs_per_channel.safetensors")
    assert described["channel_amax"] == {
        "file": "measure_maxabs_per_channel.safetensors",
        "sha256": hashlib.sha256((tmp_path / "measure_maxabs_per_channel.safetensors").read_bytes()).hexdigest(),
    }
    assert torch.equal(tensors["conv"], torch.stack(BATCHES).abs().amax((0, 1, 3, 4)))
    assert {name: float(values.max()) for name, values in tensors.items()} == described["input_amax"]
    # Scales are those without channels.
    converted = convert(net(), config(tmp_path, observer="maxabs_per_channel", mode="QUANTIZE"))
    assert torch.equal(converted(BATCHES[0]), quantize(net(), config(tmp_path), calibrate)(BATCHES[0]))


@torch.no_grad()
@pytest.mark.parametrize("power", [False, True])
def test_scales_of_blocks(power: bool) -> None:
    layer = nn.Linear(200, 150)
    name = "maxabs_blocks_pow2" if power else "maxabs_blocks_arbitrary"
    converted = convert(nn.Sequential(copy.deepcopy(layer)), FP8Config(scale_method=name))
    x = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-3], [1.0], [1e3]])

    def quantized(values: Tensor, block: tuple[int, int]) -> Tensor:
        result = torch.empty_like(values)
        for rows in torch.arange(len(values)).split(block[0]):
            for columns in torch.arange(values.shape[1]).split(block[1]):
                part = values[rows][:, columns]
                scale = part.abs().max() / 448
                scale = torch.exp2(torch.ceil(torch.log2(scale))) if power else scale
                codes, _ = quantize_float(part, "float8_e4m3fn", scale, arithmetic=ScaleArithmetic.RECIPROCAL)
                result[rows[:, None], columns] = decode(codes, "float8_e4m3fn") * scale
        return result

    want = F.linear(quantized(x, (1, 128)), quantized(layer.weight, (128, 128)), layer.bias)
    assert torch.equal(converted(x), want)
