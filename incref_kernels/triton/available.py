"""Whether this machine can run the kernels."""

import os
from functools import cache
from importlib.util import find_spec

__all__ = ["has_native", "has_triton", "is_interpreting", "why_unavailable"]


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


@cache
def has_native() -> bool:
    """Whether kernels can be compiled for the CPU; see `incref_kernels.triton.native`."""
    return find_spec("llvmlite") is not None


def is_interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU; Triton decides that while it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


def why_unavailable() -> str | None:
    """Say why no kernel can run, or None: Triton and the driver of a GPU are needed, llvmlite, or the interpreter."""
    if not has_triton():
        return "triton is not installed; install incref[triton]"
    if is_interpreting() or has_native():
        return None
    from triton.backends import backends  # noqa: PLC0415  # only where it is installed

    if any(backend.driver.is_active() for backend in backends.values()):
        return None
    return "no driver of a GPU was found; install incref[native] to run the kernels on the CPU"
