"""pytest: the fixture `triton_native`, and the option `--triton-native` for tests that know nothing of it.

Asked for with `-p incref_kernels.triton.native.pytest_plugin`: to load it always could import Triton before a test
suite has said that it wants the interpreter.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from incref_kernels.triton.native.native import Native

__all__ = ["fixture_triton_native", "pytest_addoption", "run_natively"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--triton-native", action="store_true", help="run every Triton kernel on the CPU, compiled")


@pytest.fixture(name="triton_native")
def fixture_triton_native() -> "Callable[..., Native]":
    """The function `native`, which makes a kernel that runs on the CPU."""
    from incref_kernels.triton.native.native import native  # noqa: PLC0415 (only tests that use it need Triton)

    return native


@pytest.fixture(autouse=True, scope="session")
def run_natively(pytestconfig: pytest.Config) -> Iterator[None]:
    """With `--triton-native`, replace the launches of the whole session."""
    if not pytestconfig.getoption("--triton-native"):
        yield
        return
    from incref_kernels.triton.native.install import installed  # noqa: PLC0415

    with installed():
        yield
