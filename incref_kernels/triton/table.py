"""The kernels by name of the operation."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.backends.backend import Kernel
from incref_kernels.triton import decode, dequantize_mx, encode, quantize_mx

__all__ = ["KERNELS"]

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "encode": encode.KERNEL,
        "decode": decode.KERNEL,
        "quantize_mx": quantize_mx.KERNEL,
        "dequantize_mx": dequantize_mx.KERNEL,
    }
)
"""Every kernel; an operation that is not listed here has none."""
