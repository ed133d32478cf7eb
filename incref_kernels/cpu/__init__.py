"""Backend "cpu": kernels for the processor, compiled by LLVM from the reference's own arithmetic."""

from incref.backends.backend import Backend
from incref_kernels.cpu.available import why_unavailable
from incref_kernels.cpu.table import KERNELS

__all__ = ["BACKEND"]

BACKEND = Backend(name="cpu", why_unavailable=why_unavailable, kernels=KERNELS, devices=("cpu",), is_opaque=True)
