"""Runs a part of a kernel on each thread."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from incref.errors import FlushDenormalError

__all__ = ["in_parts", "require_subnormals_kept"]

# One thread does this many elements sooner than another is woken.
_LEAST_ELEMENTS = 1 << 15


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="incref-cpu")


def require_subnormals_kept() -> None:
    """Check that this thread does not flush subnormal floats to zero.

    Raises:
        FlushDenormalError: if it does.
    """
    if sys.float_info.min / 2 == 0:
        raise FlushDenormalError(
            "the kernels keep subnormals, but this thread flushes them to zero; call torch.set_flush_denormal(False)"
        )


def in_parts(run: Callable[[int, int], int], units: int, elements: int) -> int:
    """Run units [begin, end) on every thread that PyTorch may use, and give the bitwise or of what they return.

    The calls of several threads may overlap.

    Args:
        run: takes begin and end.
        units: how many there are.
        elements: of all units, for whether more than one thread pays.
    """
    threads = min(torch.get_num_threads(), units, -(-elements // _LEAST_ELEMENTS))
    if threads <= 1:
        require_subnormals_kept()
        return run(0, units)

    def part(index: int) -> int:
        require_subnormals_kept()
        return run(units * index // threads, units * (index + 1) // threads)

    waiting = [_pool(threads - 1).submit(part, index) for index in range(1, threads)]
    result = part(0)
    for one in waiting:
        result |= one.result()
    return result
