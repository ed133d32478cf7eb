"""A call's arguments as the kernel's machine code takes them: 8 bytes each."""

import ctypes
import struct
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.triton.native.llir.types import FloatType, IntType, PtrType, Type

__all__ = ["flatten", "pack"]


def flatten(signature: Sequence[object], values: Sequence[object]) -> Iterator[object]:
    """List what the kernel is passed: no constants, tuples by element, descriptors by part.

    Args:
        signature: the type of each parameter, a tuple for a tuple.
        values: the arguments.
    """
    for kind, value in zip(signature, values, strict=True):
        if isinstance(kind, tuple):
            assert isinstance(value, tuple)
            yield from flatten(kind, value)
        elif isinstance(kind, str) and kind.startswith("tensordesc"):
            yield from _descriptor(value)
        elif kind != "constexpr":
            yield value


def _descriptor(value: object) -> Iterator[object]:
    """A tensor descriptor: base, shape, strides, flags, and shape and strides once more."""
    shape, strides = list(value.shape), list(value.strides)  # type: ignore[attr-defined]
    yield value.base  # type: ignore[attr-defined]
    yield from (*shape, *strides, value.padding == "nan")  # type: ignore[attr-defined]
    # Triton 3.8 added a second flag.
    if hasattr(value, "round_f32_to_tf32"):
        yield value.round_f32_to_tf32
    yield from (*shape, *strides)


def pack(kinds: Sequence[Type], values: Sequence[object]) -> "ctypes.Array[ctypes.c_char]":
    """Write the arguments one after the other, 8 bytes each.

    Args:
        kinds: the kernel's parameters; those beyond `values` are scratch memory, which gets null pointers.
        values: what `flatten` lists.

    Raises:
        TypeError: for an argument that does not fit its parameter.
        UnsupportedError: if there are more arguments than parameters.
    """
    if len(values) > len(kinds):
        raise UnsupportedError(f"the kernel takes {len(kinds)} arguments, the call has {len(values)}")
    parts = [_slot(kind, value) for kind, value in zip(kinds, values, strict=False)]
    data = b"".join(parts).ljust(8 * len(kinds), b"\0")
    return ctypes.create_string_buffer(data, max(len(data), 8))


def _slot(kind: Type, value: object) -> bytes:
    if isinstance(kind, PtrType):
        return struct.pack("<Q", _address(value))
    if isinstance(kind, IntType) and isinstance(value, (int, bool)):
        return (int(value) & ((1 << max(kind.bits, 8)) - 1)).to_bytes(8, "little")
    if isinstance(kind, FloatType) and isinstance(value, (int, float)):
        return _float(kind, float(value)).ljust(8, b"\0")
    raise TypeError(f"an argument of type {type(value).__name__} can't be passed as {kind}")


def _float(kind: FloatType, value: float) -> bytes:
    dtype = {"half": torch.float16, "bfloat": torch.bfloat16, "float": torch.float32, "double": torch.float64}[
        kind.name
    ]
    return bytes(torch.tensor([value], dtype=torch.float64).to(dtype).view(torch.uint8).tolist())


def _address(value: object) -> int:
    if isinstance(value, Tensor):
        if value.device.type != "cpu":
            raise TypeError(f"native kernels take CPU tensors, got one on {value.device}")
        return value.data_ptr()
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    pointer = getattr(value, "data_ptr", None)
    if pointer is None:
        raise TypeError(f"an argument of type {type(value).__name__} can't be passed as a pointer")
    return int(pointer())
