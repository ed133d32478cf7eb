"""The memory that one thread runs a kernel in."""

import ctypes
from dataclasses import dataclass

from incref_kernels.triton.native.engine import LoadedKernel
from incref_kernels.triton.native.host.context import Context

__all__ = ["Layout", "Worker"]

_LINE = 64


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a program of a kernel needs beside its arguments, in bytes.

    Attributes:
        lanes: how many lanes a program has.
        shared: its shared memory.
        slots: one buffer of the slots of a wave.
    """

    lanes: int
    shared: int
    slots: int


class Worker:
    """One thread's record and memory; a worker runs one program at a time."""

    def __init__(self, kernel: LoadedKernel, layout: Layout) -> None:
        self._kernel = kernel
        # Frames a multiple of 4096 bytes apart would share the same few lines of the cache.
        stride = _rounded(kernel.frame_size)
        stride += _LINE * (stride % 512 == 0)
        sizes = {
            "lds": _rounded(layout.shared),
            "slots": _rounded(layout.slots),
            "slots_before": _rounded(layout.slots),
            "points": _rounded(4 * layout.lanes),
            "frames": layout.lanes * stride if kernel.frame_size else 0,
        }
        self._memory = ctypes.create_string_buffer(sum(sizes.values()) + _LINE)
        self.context = Context(stride=stride)
        at = _rounded(ctypes.addressof(self._memory))
        for field, size in sizes.items():
            setattr(self.context, field, at)
            at += size

    def run(self, arguments: int) -> int:
        """Run programs until none is left; the `host.program.Failure`, 0 for none."""
        failure = self._kernel.run(arguments, ctypes.addressof(self.context))
        assert isinstance(failure, int)
        return failure


def _rounded(size: int) -> int:
    return -(-size // _LINE) * _LINE
