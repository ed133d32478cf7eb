"""Modules without weights: products and caches."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.errors import CalibrationWarning, CheckpointError, LayerError, UnsupportedError
from incref.modules.kv_cache import QuantKVCache
from incref.modules.matmul import QuantMatmul
from incref.nn.kv_cache import KVCache
from incref.nn.matmul import Matmul
from incref.qtensor.parts import fake_quantize
from incref.workflow.convert import convert
from incref.workflow.finalize_calibration import finalize_calibration
from incref.workflow.load import load
from incref.workflow.prepare import prepare
from incref.workflow.prepare_qat import prepare_qat
from incref.workflow.quantize import quantize
from incref.workflow.save import save


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.keys = KVCache()
        self.product = Matmul()

    def forward(self, x: Tensor) -> Tensor:
        self.keys.reset()
        result: Tensor = self.product(x, self.keys(self.fc(x)).transpose(-2, -1))
        return result


def net() -> Net:
    torch.manual_seed(0)
    return Net()


X = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def calibrate(model: nn.Module) -> None:
    model(X)
    model(X * 2)


def fp8(tmp_path: Path, **fields: object) -> FP8Config:
    return FP8Config(dump_stats_path=str(tmp_path / "m"), scale_method="maxabs_pow2", **fields)  # type: ignore[arg-type]


@torch.no_grad()
def test_static_scales_of_every_input(tmp_path: Path) -> None:
    floats = net()
    converted = quantize(net(), fp8(tmp_path), calibrate)
    assert isinstance(converted, Net)
    assert isinstance(converted.product, QuantMatmul)
    assert isinstance(converted.keys, QuantKVCache)
    keys = floats.fc(X * 2)
    for name, amax in (
        ("product.x", (X * 2).abs().max()),
        ("product.y", keys.abs().max()),
        ("keys.x", keys.abs().max()),
    ):
        want = torch.exp2(torch.ceil(torch.log2(amax / (448 * 0.25))))
        assert torch.equal(converted.get_buffer(f"{name}_scale"), want)
    spec = converted.product.scheme.activation
    quantized = fake_quantize(converted.fc(X), spec, converted.keys.get_buffer("x_scale"))
    y = fake_quantize(quantized.transpose(-2, -1), spec, converted.product.get_buffer("y_scale"))
    want = fake_quantize(X, spec, converted.product.get_buffer("x_scale")) @ y
    assert torch.equal(converted(X), want)


def test_in_two_steps(tmp_path: Path) -> None:
    measured = prepare(net(), fp8(tmp_path, mode="MEASURE"))
    calibrate(measured)
    finalize_calibration(measured)
    assert sorted(json.loads((tmp_path / "m_maxabs.json").read_text())["input_amax"]) == [
        "fc",
        "keys.x",
        "product.x",
        "product.y",
    ]
    converted = convert(net(), fp8(tmp_path, mode="QUANTIZE"))
    assert torch.equal(converted(X), quantize(net(), fp8(tmp_path), calibrate)(X))


@pytest.mark.parametrize(
    "config",
    [
        MXQuantConfig(w_dtype="fp4", act_dtype="fp8_e4m3"),
        FP8Config(dynamic_quantization=True),
        FP8Config(dynamic_quantization=True, scale_method="maxabs_pcs_pow2", target="gaudi2"),
    ],
    ids=["mx", "fp8", "fp8 tokens"],
)
def test_dynamic_saved_and_loaded(config: BaseConfig, tmp_path: Path) -> None:
    converted = convert(net(), config)
    got = converted(X)
    assert float((got - net()(X)).detach().norm() / got.detach().norm()) < 0.2
    save(converted, tmp_path / "saved")
    loaded = load(tmp_path / "saved", net())
    assert torch.equal(loaded(X), got)
    trained = prepare_qat(net(), config)
    assert isinstance(trained, Net)
    assert torch.equal(trained(X), got)
    trained(X).sum().backward()
    # Through the product, the cache and the layer.
    assert trained.fc.weight.grad is not None
    assert bool(trained.fc.weight.grad.any())
    assert torch.equal(convert(trained)(X), got)


def test_rules_speak_of_them(tmp_path: Path) -> None:
    config = RTNConfig().set_local("product", MXQuantConfig()).set_local(KVCache, fp8(tmp_path))
    plan = config.plan(net())
    assert list(plan.inputs) == ["keys", "product"]
    assert str(plan).splitlines()[1:] == [
        "keys            input float8_e4m3fn, static  0.000  the rule incref.nn.kv_cache.KVCache",
        "product         input mxint8                 0.000  the rule 'product'",
    ]
    assert [one.reason for one in RTNConfig().plan(net()).decisions][1:] == ["every layer leaves it alone"] * 2
    blocked = fp8(tmp_path, blocklist={"types": ["KVCache"], "names": ["^prod"]})
    assert blocked.plan(net()).inputs == {}
    listed = MXQuantConfig(white_list=["fc"])
    assert listed.plan(net()).inputs == {}


def test_moved_and_cast(tmp_path: Path) -> None:
    converted = quantize(net(), fp8(tmp_path), calibrate).to(torch.bfloat16)
    assert converted.get_buffer("product.x_scale").dtype is torch.float32
    assert converted(X.to(torch.bfloat16)).dtype is torch.bfloat16


def test_what_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fc is quantized with the help of calibration data, and there is none"):
        convert(net(), fp8(tmp_path))
    with pytest.raises(UnsupportedError, match="calibration data says nothing"):
        prepare_qat(net(), fp8(tmp_path))
    only = RTNConfig(dtype="fp32").set_local("product", fp8(tmp_path))
    with pytest.raises(UnsupportedError, match="product: scales that are found in every call are needed"):
        prepare_qat(net(), only)
    with pytest.raises(LayerError, match="keys: what grows has a static scale"):
        convert(net(), MXQuantConfig(act_dtype="nvfp4"))
    with pytest.raises(LayerError, match=r"product\.x: calibration data made its input NaN or Inf"):
        quantize(net(), only, lambda model: model(X / 0))


def test_never_called(tmp_path: Path) -> None:
    class Unused(Net):
        def __init__(self) -> None:
            super().__init__()
            self.unused = Matmul()

    with pytest.warns(CalibrationWarning, match=r"unused\.[xy] was never called"):
        converted = quantize(Unused(), fp8(tmp_path), calibrate)
    assert converted.get_buffer("unused.y_scale").item() == 1


def test_loading_into_another_model(tmp_path: Path) -> None:
    save(convert(net(), MXQuantConfig()), tmp_path / "saved")
    other = net()
    del other.product
    with pytest.raises(CheckpointError, match="the model has no layer product"):
        load(tmp_path / "saved", other)
    other = net()
    other.product = nn.Identity()  # type: ignore[assignment]  # not what was saved
    with pytest.raises(CheckpointError, match="product must be a Matmul or KVCache, got Identity"):
        load(tmp_path / "saved", other)
