"""The memory that one thread runs a kernel in."""

import ctypes
import sys
from dataclasses import dataclass

from incref.errors import FlushDenormalError
from incref_kernels.llvm.engine import LoadedKernel
from incref_kernels.triton.native.host.context import Context
from incref_kernels.triton.native.host.races import NOTE_BYTES
from incref_kernels.triton.native.printing import PRINT

__all__ = ["Layout", "Worker"]

_LINE = 64
# More than the widest access.
_SPARE = 1024


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a program of a kernel needs beside its arguments, in bytes.

    Attributes:
        waves: how many waves a program has.
        shared: its shared memory.
        frame: what a wave remembers while it waits.
        watched: how much of the shared memory is watched for races: all or nothing.
    """

    waves: int
    shared: int
    frame: int
    watched: int


class Worker:
    """One thread's record and memory; a worker runs one program at a time."""

    def __init__(self, kernel: LoadedKernel, layout: Layout) -> None:
        self._kernel = kernel
        sizes = {
            "lds": _rounded(layout.shared),
            "states": _rounded(4 * layout.waves),
            "frames": layout.waves * _rounded(layout.frame),
            "spare": _SPARE,
            "shared_notes": layout.watched * NOTE_BYTES,
        }
        self._memory = ctypes.create_string_buffer(sum(sizes.values()) + _LINE)
        self.context = Context(print=PRINT)
        at = _rounded(ctypes.addressof(self._memory))
        for field, size in sizes.items():
            setattr(self.context, field, at)
            at += size

    def run(self, arguments: int) -> int:
        """Run programs until none is left; the `host.failure.Failure`, 0 for none.

        Raises:
            FlushDenormalError: if this thread flushes subnormal floats to zero.
        """
        if sys.float_info.min / 2 == 0:
            raise FlushDenormalError(
                "a kernel's floats keep subnormals, but this thread flushes them to zero; "
                "call torch.set_flush_denormal(False)"
            )
        failure = self._kernel.run(arguments, ctypes.addressof(self.context))
        assert isinstance(failure, int)
        return failure


def _rounded(size: int) -> int:
    return -(-size // _LINE) * _LINE
