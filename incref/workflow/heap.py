"""Memory that was freed, handed back to the system."""

import ctypes
import sys
from functools import cache
from typing import Protocol, cast

__all__ = ["trim_heap"]


class _Trim(Protocol):
    def __call__(self, pad: ctypes.c_size_t, /) -> int: ...


def trim_heap() -> None:
    """Hand back memory that was freed, where the C library is glibc.

    That keeps what tensors below 32 MiB had, in holes between what is still used: as much again as a block of a model.
    Other C libraries hand it back on their own, or can't be asked.
    """
    if (trim := _find_trim()) is not None:
        trim(ctypes.c_size_t(0))


@cache
def _find_trim() -> _Trim | None:
    if sys.platform != "linux":
        return None
    return cast("_Trim | None", getattr(ctypes.CDLL(None), "malloc_trim", None))
