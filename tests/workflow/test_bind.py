from pathlib import Path

import pytest
import torch
from torch import nn

from incref.backends.backend import Backend, Kernel
from incref.config.schemes import SCHEMES
from incref.errors import UnsupportedError
from incref.modules import binding as binding_module
from incref.modules.linear import QuantLinear
from incref.ops import OPS
from incref.workflow import bind as bind_module
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.quantize import quantize
from incref.workflow.save import save


def backend(name: str, *, reason: str | None = None) -> Backend:
    kernel = Kernel(fn=OPS["weight_only_matmul"].reference, why_not=lambda *_, **__: None)
    return Backend(
        name=name,
        why_unavailable=lambda: reason,
        kernels={"weight_only_matmul": kernel},
        devices=("cpu",),
        home=lambda: "cpu",
    )


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"mine": backend("mine"), "hpu": backend("hpu"), "broken": backend("broken", reason="no driver")}
    for module in (binding_module, bind_module):
        monkeypatch.setattr(module, "find_backend", found.__getitem__)
    monkeypatch.setattr(binding_module, "backends_for", lambda _: [found["mine"]])


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))


def kernels(converted: nn.Module) -> set[str]:
    return {module.kernel for module in converted.modules() if isinstance(module, QuantLinear)}


def test_the_reference_computes_where_nothing_else_is_asked_for() -> None:
    assert kernels(quantize(model(), SCHEMES["int4_g32"])) == {"reference"}
    assert kernels(convert(model(), SCHEMES["int4_g32"], backend="reference")) == {"reference"}


@pytest.mark.parametrize("name", ["auto", "mine"])
def test_every_layer_gets_a_kernel(name: str) -> None:
    assert kernels(convert(model(), SCHEMES["int4_g32"], backend=name)) == {"mine weight_only_matmul"}


def test_a_layer_without_a_kernel_is_named() -> None:
    with pytest.raises(UnsupportedError, match="0: backend 'mine' has no kernel: int8_matmul"):
        quantize(model(), SCHEMES["int8_dynamic"], backend="mine")
    converted = quantize(model(), SCHEMES["int8_dynamic"], backend="mine", fallback="reference")
    assert kernels(converted) == {"reference"}


def test_a_backend_that_can_not_run_is_an_error_before_anything_is_done() -> None:
    float_model = model()
    with pytest.raises(UnsupportedError, match="backend 'broken' can't run here: no driver"):
        convert(float_model, SCHEMES["int4_g32"], backend="broken")
    assert isinstance(float_model[0], nn.Linear)


def test_a_loaded_model_computes_by_the_backend_that_is_asked_for(tmp_path: Path) -> None:
    converted = quantize(model(), SCHEMES["int4_g32"], backend="mine")
    save(converted, tmp_path / "saved")
    x = torch.randn(2, 64)
    loaded = load(tmp_path / "saved", model(), backend="mine")
    assert kernels(loaded) == {"mine weight_only_matmul"}
    assert torch.equal(loaded(x), converted(x))
    assert kernels(load(tmp_path / "saved", model())) == {"reference"}


def test_hpu_stands_for_its_backend_and_where_that_wants_tensors(tmp_path: Path) -> None:
    converted = quantize(model(), SCHEMES["int4_g32"], device="hpu")
    assert kernels(converted) == {"hpu weight_only_matmul"}
    save(converted, tmp_path / "saved")
    assert kernels(load(tmp_path / "saved", model(), device="hpu")) == {"hpu weight_only_matmul"}
    assert kernels(load(tmp_path / "saved", model(), device="hpu", backend="reference")) == {"reference"}


def test_another_fallback_is_refused() -> None:
    with pytest.raises(ValueError, match="fallback must be None or"):
        convert(model(), SCHEMES["int4_g32"], fallback="cpu")
