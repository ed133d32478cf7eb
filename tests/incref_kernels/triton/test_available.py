import subprocess
import sys
from collections.abc import Iterator

import pytest

from incref_kernels.triton import available


@pytest.fixture(autouse=True)
def _look_again() -> Iterator[None]:
    """What is installed is looked for once; tests say otherwise."""
    available.has_triton.cache_clear()
    available.has_native.cache_clear()
    yield
    available.has_triton.cache_clear()
    available.has_native.cache_clear()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "find_spec", lambda _name: None)
    assert available.why_unavailable() == "triton is not installed; install incref[triton]"


def test_the_interpreter_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "find_spec", lambda name: name)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert available.why_unavailable() is None


@pytest.mark.skipif(not available.has_triton(), reason="triton is not installed")
def test_without_a_gpu_the_driver_is_missed() -> None:
    program = "from incref_kernels.triton import BACKEND; print(BACKEND.why_unavailable())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(("no driver of a GPU was found", "None"))
