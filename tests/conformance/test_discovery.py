import sys
from importlib import import_module
from pathlib import Path

import pytest

from incref.backends.backend import Backend, Kernel
from incref.conformance.discovery import find_implementations, installed_implementations
from incref.errors import UnsupportedError
from incref.ops import int8_matmul

MODULE = """
from incref.conformance.implementation import Implementation, kernel
from incref.ops import decode

@kernel("decode", options={"fmt": ["int8"]})
def mine(codes, fmt, *, dtype):
    return decode(codes, fmt, dtype=dtype)

def register(registry):
    registry.add("one", mine)
    registry.add("two", mine)

def register_nothing(registry):
    pass

ready = Implementation.of("ready", mine)
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_kernels.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_kernels", raising=False)
    return "their_kernels"


def test_the_reference_has_every_operation() -> None:
    (found,) = find_implementations("reference")
    assert "encode" in found.candidates
    assert "reference" in installed_implementations()


def test_a_register_function_adds_implementations(module: str) -> None:
    assert [one.name for one in find_implementations(f"{module}:register")] == ["one", "two"]


def test_candidates_and_implementations_are_taken_as_they_are(module: str) -> None:
    assert find_implementations(f"{module}:ready")[0].name == "ready"
    for name in (f"{module}:mine", f"{module}:"):
        assert find_implementations(name)[0].candidates.keys() == {"decode"}


def test_a_backend_is_taken_by_its_place(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(fn=int8_matmul, why_not=lambda *_args, **_options: None)
    backend = Backend(name="theirs", why_unavailable=lambda: None, kernels={"int8_matmul": kernel})
    monkeypatch.setattr(import_module(module), "backend", backend, raising=False)
    (found,) = find_implementations(f"{module}:backend")
    assert found.name == "theirs"
    assert found.candidates.keys() == {"int8_matmul"}


@pytest.mark.parametrize("device", ["nosuch", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(UnsupportedError, match=f"nothing can be put on the device '{device}'"):
        find_implementations("reference", device)


def test_what_is_nothing_is_an_error(module: str) -> None:
    with pytest.raises(UnsupportedError, match="registered nothing"):
        find_implementations(f"{module}:register_nothing")
    for name in (f"{module}:number", "incref.ops:encode"):
        with pytest.raises(
            UnsupportedError, match="must be a candidate, an implementation, or a function of one argument"
        ):
            find_implementations(name)
    with pytest.raises(UnsupportedError, match="has no 'absent'"):
        find_implementations(f"{module}:absent")
    with pytest.raises(UnsupportedError, match="no backend is called"):
        find_implementations("nobody")
