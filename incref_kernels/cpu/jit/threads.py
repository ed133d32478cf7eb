"""Runs a kernel on the threads that PyTorch computes with.

A thread of OpenMP that has nothing to do keeps its core busy for milliseconds, in case there is more. Other threads
would share the core with it after every operation of PyTorch, so those of OpenMP do the work where there are some.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ClassVar

import torch

from incref.errors import FlushDenormalError

__all__ = ["FLUSHED", "LOST", "Work", "run_in_parts"]

LOST, FLUSHED = 1, 2

# One thread does this many elements sooner than another is woken.
_LEAST_ELEMENTS = 1 << 15
# So that a thread that is held up keeps nobody waiting for long.
_PARTS_PER_THREAD = 4


class Work(ctypes.Structure):
    """What the threads of one launch share: every field takes eight bytes.

    Attributes:
        arguments: address of the addresses of all tensors.
        sizes: address of what `SIZES` lists.
        units: how many there are.
        parts: how many pieces they are cut into.
        taken: how many of these some thread has begun.
        result: `LOST` if an element was, or `FLUSHED` if a thread flushes subnormals.
    """

    _fields_: ClassVar = [
        ("arguments", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("units", ctypes.c_int64),
        ("parts", ctypes.c_int64),
        ("taken", ctypes.c_int64),
        ("result", ctypes.c_int64),
    ]


def run_in_parts(address: int, work: Work, elements: int) -> bool:
    """Run a kernel on as many threads as PyTorch may use. The calls of several threads may overlap.

    Args:
        address: of its function, which takes the address of the work.
        work: all of it, but for `parts`.
        elements: of all units, for whether more than one thread pays.

    Returns:
        Whether an element was lost.

    Raises:
        FlushDenormalError: if a thread flushes subnormal floats to zero.
    """
    threads = min(torch.get_num_threads(), work.units, -(-elements // _LEAST_ELEMENTS))
    work.parts = 1 if threads <= 1 else min(work.units, threads * _PARTS_PER_THREAD)
    at = ctypes.addressof(work)
    if threads <= 1:
        _function(address)(at)
    elif (team := _team()) is not None:
        team(address, at, threads, 0)
    else:
        waiting = [_pool(threads - 1).submit(_function(address), at) for _ in range(1, threads)]
        _function(address)(at)
        for one in waiting:
            one.result()
    if work.result & FLUSHED:
        raise FlushDenormalError(
            "the kernels keep subnormals, but this thread flushes them to zero; call torch.set_flush_denormal(False)"
        )
    return bool(work.result & LOST)


@cache
def _function(address: int) -> Callable[[int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


@cache
def _team() -> Callable[[int, int, int, int], None] | None:
    """The entry of GNU's OpenMP that calls a function on every thread; PyTorch for Linux brings it along."""
    found = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if found is not None:
        found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        found.restype = None
    return found


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="incref-cpu")
