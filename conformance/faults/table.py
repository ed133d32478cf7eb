"""All faults and controls, in the order of their files."""

import re
from collections.abc import Iterator
from types import ModuleType

from conformance.faults import (
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    fp8_bmm,
    fp8_conv2d,
    fp8_matmul,
    gptq_update,
    int8_matmul,
    mx_matmul,
    packing,
    quantize_affine,
    quantize_float,
    quantize_mx,
    weight_only_matmul,
)
from conformance.faults.kernel import Kernel
from incref.conformance.faults import Control, Fault

__all__ = ["CONTROLS", "FAULTS"]

_MODULES = (
    encode,
    decode,
    compute_scale,
    quantize_affine,
    dequantize_affine,
    quantize_float,
    dequantize_float,
    quantize_mx,
    dequantize_mx,
    packing,
    int8_matmul,
    weight_only_matmul,
    fp8_matmul,
    fp8_bmm,
    fp8_conv2d,
    mx_matmul,
    gptq_update,
)


def _kernels(module: ModuleType) -> Iterator[type[Kernel]]:
    """The public classes that a file defines."""
    for name, found in vars(module).items():
        is_kernel = isinstance(found, type) and issubclass(found, Kernel)
        if is_kernel and found.__module__ == module.__name__ and not name.startswith("_"):
            yield found


def _name(kernel: type[Kernel]) -> str:
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", kernel.__name__).lower()
    return f"{kernel.op}.{words}"


def _story(kernel: type[Kernel]) -> str:
    assert kernel.__doc__
    return " ".join(kernel.__doc__.split())


_KERNELS = tuple(kernel for module in _MODULES for kernel in _kernels(module))

FAULTS = tuple(
    Fault(name=_name(kernel), story=_story(kernel), candidate=kernel().candidate(), source=kernel.source)
    for kernel in _KERNELS
    if not kernel.__dict__.get("is_right", False)
)
"""Wrong implementations, each with one step changed."""

CONTROLS = tuple(
    Control(name=_name(kernel), story=_story(kernel), candidate=kernel().candidate())
    for kernel in _KERNELS
    if kernel.__dict__.get("is_right", False)
)
"""Right ones."""
