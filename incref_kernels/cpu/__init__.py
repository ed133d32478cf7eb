"""Backend "cpu": the references, compiled for the processor by Inductor."""

from incref.backends.backend import Backend
from incref_kernels.cpu import compiled
from incref_kernels.cpu.compiler import why_unavailable

__all__ = ["BACKEND"]

BACKEND = Backend(name="cpu", why_unavailable=why_unavailable, kernels=compiled.KERNELS, devices=("cpu",))
