"""Loads, stores and atomic operations."""

from collections.abc import Callable

import numpy as np
import triton.language as tl

from benchmarks.triton_native.language import memory_kernels as kernels
from benchmarks.triton_native.language.row import Launch, Row
from benchmarks.triton_native.language.values import DTYPES, INTEGERS, array, differ, empty, integers

__all__ = ["ROWS"]

_N, _GIVEN = 512, 300
_TILE, _ROWS_GIVEN, _COLUMNS_GIVEN = 32, 27, 48


def _masked(launch: Launch, dtype: str) -> int:
    x = integers(dtype, 0, 2, (_N,), seed=3)
    got = empty(dtype, _N)
    want, values = array(got).copy(), array(x).copy()
    values[_GIVEN:] = 1
    stored = np.arange(_N) % 3 != 0
    want[stored] = values[stored]
    launch(kernels.masked_kernel, 1, x, got, _GIVEN, N=_N)
    return differ(got, want)


def _padded(x: np.ndarray) -> np.ndarray:
    want = np.zeros((_TILE, 2 * _TILE), dtype=x.dtype)
    want[:_ROWS_GIVEN, :_COLUMNS_GIVEN] = x
    return want


def _tile(launch: Launch, dtype: str, kernel: object) -> int:
    x = integers(dtype, 1, 5, (_ROWS_GIVEN, _COLUMNS_GIVEN), seed=4)
    got = empty(dtype, _TILE, 2 * _TILE)
    launch(kernel, 1, x, got, _ROWS_GIVEN, _COLUMNS_GIVEN, M=_TILE, N=_TILE)
    return differ(got, _padded(array(x)))


def _descriptor(launch: Launch, dtype: str) -> int:
    from triton.tools.tensor_descriptor import TensorDescriptor  # noqa: PLC0415 (its place in Triton may change)

    x = integers(dtype, 1, 5, (_ROWS_GIVEN, _COLUMNS_GIVEN), seed=4)
    got = empty(dtype, _TILE, 2 * _TILE)
    source, target = (TensorDescriptor.from_tensor(t, [_TILE, _TILE]) for t in (x, got))
    launch(kernels.descriptor_kernel, 1, source, target, N=_TILE)
    return differ(got, _padded(array(x)))


def _atomic(kernel: object, combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Launch, str], int]:
    def wrong(launch: Launch, dtype: str) -> int:
        x, start = integers(dtype, 0, 8, (4, 256), seed=5), integers(dtype, 0, 8, (256,), seed=6)
        want = array(start).copy()
        for part in array(x):
            want = combine(want, part).astype(want.dtype)
        got = start.clone()
        launch(kernel_of_atomics, 4, x, got, empty(dtype, 4, 256), N=256, FN=kernel)
        return differ(got, want)

    kernel_of_atomics = kernels.atomic_kernel
    return wrong


def _exchange(launch: Launch, dtype: str) -> int:
    x, start = integers(dtype, 0, 8, (256,), seed=5), integers(dtype, 0, 8, (256,), seed=6)
    got, old = start.clone(), empty(dtype, 256)
    launch(kernels.exchange_kernel, 1, x, got, old, N=256)
    return differ(got, array(x)) + differ(old, array(start))


def _swap(launch: Launch, dtype: str) -> int:
    x, y, start = (integers(dtype, 0, 3, (256,), seed=seed) for seed in (5, 6, 7))
    want = np.where(array(start) == array(y), array(x), array(start))
    got, old = start.clone(), empty(dtype, 256)
    launch(kernels.compare_and_swap_kernel, 1, x, y, got, old, N=256)
    return differ(got, want) + differ(old, array(start))


def _printed(launch: Launch, dtype: str) -> int:
    x = integers(dtype, 0, 8, (64,), seed=5)
    got = empty(dtype, 64)
    launch(kernels.print_kernel, 1, x, got, N=64)
    return differ(got, array(x))


def _rows(name: str, wrong: Callable[[Launch, str], int], dtypes: tuple[str, ...]) -> list[Row]:
    return [
        Row(group="memory", operation=name, dtype=dtype, wrong=lambda launch, dtype=dtype: wrong(launch, dtype))
        for dtype in dtypes
    ]


_ALL = tuple(DTYPES)
_WIDE = ("int32", "int64", "uint32", "uint64")
_SUMMED = (*INTEGERS, "float16", "bfloat16", "float32", "float64")
ROWS = [
    *_rows("load with mask and other, store with mask", _masked, _ALL),
    *(
        _rows("block pointer, advanced", lambda go, kind: _tile(go, kind, kernels.block_pointer_kernel), _ALL)
        if hasattr(tl, "make_block_ptr")
        else []
    ),
    *_rows("descriptor from the host", _descriptor, _ALL[1:]),
    *_rows("descriptor from the device", lambda go, kind: _tile(go, kind, kernels.device_descriptor_kernel), _ALL[1:]),
    *_rows("atomic_add", _atomic(kernels.atomic_add, np.add), _SUMMED),
    *_rows("atomic_max", _atomic(kernels.atomic_max, np.maximum), _SUMMED),
    *_rows("atomic_min", _atomic(kernels.atomic_min, np.minimum), _SUMMED),
    *_rows("atomic_and", _atomic(kernels.atomic_and, np.bitwise_and), _WIDE),
    *_rows("atomic_or", _atomic(kernels.atomic_or, np.bitwise_or), _WIDE),
    *_rows("atomic_xor", _atomic(kernels.atomic_xor, np.bitwise_xor), _WIDE),
    *_rows("atomic_xchg", _exchange, (*_WIDE, "float32", "float64")),
    *_rows("atomic_cas", _swap, _WIDE),
    *(
        _rows("atomic_load", _atomic(kernels.atomic_load, lambda old, _: old), _WIDE)
        if hasattr(tl, "atomic_load")
        else []
    ),
    *_rows("device_print", _printed, _ALL[1:]),
]
