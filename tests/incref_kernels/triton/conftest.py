"""Runs the tests of each file here in a process of its own, in which Triton interprets kernels.

Triton decides while it is imported whether it interprets. The other tests, and the compiler behind `torch.compile`,
need it to do what it usually does.
"""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

_INTERPRET = "TRITON_INTERPRET"
_USUAL = (
    "conftest.py",
    "test_available.py",
    "test_divide.py",
    "test_faults.py",
    "test_hardware.py",
    "test_matmul_tiles.py",
    "test_tiles.py",
)
# The interpreter adds bfloat16 as if it were integers, so products are tested compiled for the CPU.
_COMPILED = "_matmul.py"
# What is tested both ways.
_BOTH = ("test_conformance.py",)
_NATIVE = Path(__file__).parent / "native"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Collect a file as one test that runs it elsewhere, unless this is the process that interprets."""
    found = yield
    is_usual = file_path.name in _USUAL or file_path.name.endswith(_COMPILED) or _NATIVE in file_path.parents
    if not found or os.environ.get(_INTERPRET) == "1" or is_usual:
        return found
    if file_path.name in _BOTH:
        return [*found, _File.from_parent(parent, path=file_path)]
    return [_File.from_parent(parent, path=file_path)]


class _File(pytest.File):
    """A file of tests for the interpreter."""

    def collect(self) -> Iterator[pytest.Item]:
        yield _Run.from_parent(self, name="interpreted")


class _Run(pytest.Item):
    """All tests of a file."""

    def runtest(self) -> None:
        if find_spec("triton") is None:
            pytest.skip("triton is not installed")
        # What numpy warns of, such as a quotient that is Inf, is what the kernels are asked for.
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(self.path)]
        command += ["-W", "ignore::RuntimeWarning"]
        done = subprocess.run(command, env=os.environ | {_INTERPRET: "1"}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise _RunError(done.stdout + done.stderr)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """Show what the other process printed."""
        return str(excinfo.value) if isinstance(excinfo.value, _RunError) else str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"interpreted: {self.path.name}"


class _RunError(Exception):
    """The other process found a failure."""
