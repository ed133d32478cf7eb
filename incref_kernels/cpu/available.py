"""Whether this machine can compile the kernels."""

from importlib.util import find_spec

__all__ = ["why_unavailable"]


def why_unavailable() -> str | None:
    """Say why nothing can be compiled for the processor, or None: LLVM is needed, as llvmlite packs it."""
    if find_spec("llvmlite") is None:
        return "llvmlite is not installed; install incref[cpu]"
    return None
