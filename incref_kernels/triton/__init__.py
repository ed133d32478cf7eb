"""Backend "triton": kernels for GPUs of NVIDIA, AMD and Intel, written in Triton."""

from collections.abc import Mapping
from importlib import import_module

from incref.backends.backend import Backend, Kernel
from incref_kernels.triton.available import has_triton, why_unavailable

__all__ = ["BACKEND"]


def _kernels() -> Mapping[str, Kernel]:
    """Import the kernels where Triton is installed; elsewhere the backend says that it is not."""
    if not has_triton():
        return {}
    kernels: Mapping[str, Kernel] = import_module("incref_kernels.triton.table").KERNELS
    return kernels


BACKEND = Backend(
    name="triton", why_unavailable=why_unavailable, kernels=_kernels(), devices=("cuda", "xpu"), is_opaque=True
)
