"""The kernels by name of the operation."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.backends.backend import Kernel
from incref_kernels.triton import decode, encode

__all__ = ["KERNELS"]

KERNELS: Mapping[str, Kernel] = MappingProxyType({"encode": encode.KERNEL, "decode": decode.KERNEL})
"""Every kernel; an operation that is not listed here has none."""
