"""Whether there is a Gaudi, and which."""

import gc
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from incref.errors import UnsupportedError
from incref.ops import encode
from incref_kernels.hpu import BACKEND, available
from incref_kernels.hpu.available import chip, has_group_index, home, mode, why_unavailable
from incref_kernels.hpu.runtime import compile_model, inference, mark_step, settle
from incref_kernels.hpu.simulator.options import Mode
from incref_kernels.hpu.simulator.simulate import simulate


def install(monkeypatch: pytest.MonkeyPatch, *, device: str = "synDeviceGaudi3", is_lazy: bool = True) -> list[str]:
    """Stand in for the vendor's software; give the list of what is called."""
    calls: list[str] = []

    def record(name: str) -> object:
        return lambda *_args, **_options: calls.append(name)

    names = ("mark_step", "hpu_set_inference_env", "hpu_inference_initialize", "hpu_teardown_inference_env")
    core = SimpleNamespace(**{name: record(name) for name in names})
    kinds = SimpleNamespace(synDeviceGaudi2="synDeviceGaudi2", synDeviceGaudi3="synDeviceGaudi3")
    parts = {
        "torch.core": core,
        "torch.utils.experimental": SimpleNamespace(_get_device_type=lambda: device, synDeviceType=kinds),
        "torch.utils.internal": SimpleNamespace(is_lazy=lambda: is_lazy),
    }
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, f"habana_frameworks.{name}", part)  # type: ignore[arg-type]
    for name in ("", ".torch", ".torch.utils"):
        monkeypatch.setitem(sys.modules, f"habana_frameworks{name}", ModuleType(name))
    monkeypatch.setattr(available, "find_spec", lambda _: object())
    return calls


def test_without_software_or_simulation_nothing_runs() -> None:
    reason = why_unavailable()
    assert reason is not None
    assert "habana_frameworks is not installed; INCREF_HPU_SIMULATOR=gaudi2" in reason
    with pytest.raises(UnsupportedError, match="habana_frameworks is not installed"):
        encode.on(BACKEND)


def test_a_simulation_is_at_home_on_the_cpu() -> None:
    with simulate("gaudi3", mode="eager"):
        assert why_unavailable() is None
        assert (chip(), home(), mode(), has_group_index()) == ("gaudi3", "cpu", Mode.EAGER, False)
    assert home() == "hpu"


@pytest.mark.parametrize("name", ["gaudi2", "gaudi3"])
def test_the_software_says_which_chip_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(monkeypatch, device=f"synDevice{name.capitalize()}")
    assert chip() == name


def test_another_chip_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, device="synDeviceGaudi")
    with pytest.raises(
        UnsupportedError, match="the chips that are known are gaudi2, gaudi3; the device is a synDevice"
    ):
        chip()


@pytest.mark.parametrize("is_there", [True, False])
def test_software_without_a_device(monkeypatch: pytest.MonkeyPatch, *, is_there: bool) -> None:
    install(monkeypatch)
    monkeypatch.setattr(torch, "get_device_module", lambda _: SimpleNamespace(is_available=lambda: is_there))
    assert why_unavailable() == (None if is_there else "habana_frameworks finds no Gaudi")


def test_the_mode_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch, is_lazy=False)
    mark_step()
    assert (mode(), calls) == (Mode.EAGER, [])
    calls = install(monkeypatch, is_lazy=True)
    mark_step()
    assert (mode(), calls) == (Mode.LAZY, ["mark_step"])
    monkeypatch.setitem(sys.modules, "habana_frameworks.torch.utils.internal", None)  # type: ignore[arg-type]
    for value, wanted in (("1", Mode.LAZY), ("0", Mode.EAGER)):
        monkeypatch.setenv("PT_HPU_LAZY_MODE", value)
        assert mode() == wanted


def test_the_environment_of_inference_is_torn_down_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch)
    with pytest.raises(ZeroDivisionError), inference(nn.Linear(1, 1)):
        raise ZeroDivisionError
    assert calls == ["hpu_set_inference_env", "hpu_inference_initialize", "hpu_teardown_inference_env"]


def test_the_environment_lasts_while_a_model_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch)
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    settle(one)
    settle(other)
    with inference(one):
        pass
    assert calls == ["hpu_set_inference_env", *["hpu_inference_initialize"] * 3]
    del one
    gc.collect()
    assert calls[-1] == "hpu_inference_initialize"
    del other
    gc.collect()
    assert calls[-1] == "hpu_teardown_inference_env"
    assert calls.count("hpu_teardown_inference_env") == 1


def test_a_model_that_cannot_be_initialized_leaves_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(monkeypatch)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["habana_frameworks.torch.core"], "hpu_inference_initialize", fail)
    with pytest.raises(ZeroDivisionError):
        settle(nn.Linear(1, 1))
    assert calls == ["hpu_set_inference_env", "hpu_teardown_inference_env"]


def test_a_simulation_has_no_environment() -> None:
    model = nn.Linear(2, 2)
    with simulate("gaudi2", mode="lazy"), inference(model) as found:
        assert found is model
        assert compile_model(model) is model
    with simulate("gaudi2", mode="compile"):
        compiled = compile_model(model)
        assert torch.equal(compiled(torch.ones(1, 2)), model(torch.ones(1, 2)))


class AsksForTheMode(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mark_step()
        return x + list(Mode).index(mode())


@pytest.mark.parametrize("played", Mode)
def test_what_is_traced_is_compiled(played: Mode) -> None:
    model, x = AsksForTheMode(), torch.zeros(())
    with simulate("gaudi2", mode=played) as simulation:
        found = [int(model(x)), int(torch.compile(model, backend="eager")(x))]
    assert [list(Mode)[place] for place in found] == [played, Mode.COMPILE]
    # Only the call that is not traced cuts a graph, and only in the lazy mode.
    assert simulation.steps == (played is Mode.LAZY)
