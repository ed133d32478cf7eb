"""The kernels by name of the operation."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.backends.backend import Kernel
from incref_kernels.cpu import (
    cast,
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    fake_quantize_affine,
    fake_quantize_float,
    fake_quantize_mx,
    gptq_update,
    int8_matmul,
    pack,
    quantize_affine,
    quantize_float,
    quantize_mx,
    weight_only_matmul,
)

__all__ = ["KERNELS"]

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "encode": encode.KERNEL,
        "decode": decode.KERNEL,
        "compute_scale": compute_scale.KERNEL,
        "quantize_affine": quantize_affine.KERNEL,
        "dequantize_affine": dequantize_affine.KERNEL,
        "quantize_float": quantize_float.KERNEL,
        "dequantize_float": dequantize_float.KERNEL,
        "quantize_mx": quantize_mx.KERNEL,
        "dequantize_mx": dequantize_mx.KERNEL,
        "pack": pack.PACK,
        "unpack": pack.UNPACK,
        "cast": cast.KERNEL,
        "fake_quantize_affine": fake_quantize_affine.KERNEL,
        "fake_quantize_float": fake_quantize_float.KERNEL,
        "fake_quantize_mx": fake_quantize_mx.KERNEL,
        "gptq_update": gptq_update.KERNEL,
        "int8_matmul": int8_matmul.KERNEL,
        "weight_only_matmul": weight_only_matmul.KERNEL,
    }
)
"""Every kernel; an operation that is not listed here has none."""
