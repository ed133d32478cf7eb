"""A kernel compiled for one specialization of its arguments, and its launch."""

import ctypes
import random
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from math import prod
from os import cpu_count, sched_getaffinity

from incref_kernels.llvm import engine
from incref_kernels.llvm.engine import LoadedKernel
from incref_kernels.triton.native.arguments import flatten, pack
from incref_kernels.triton.native.cache import Artifact
from incref_kernels.triton.native.extents import extents_of, marks_of, notes_of, require_written, table
from incref_kernels.triton.native.failures import explain
from incref_kernels.triton.native.host.checks import Check
from incref_kernels.triton.native.host.segments import Site
from incref_kernels.triton.native.llir.types import Type
from incref_kernels.triton.native.worker import Layout, Worker

__all__ = ["CompiledKernel", "default_threads"]


def default_threads() -> int:
    """How many cores this process may use."""
    try:
        return len(sched_getaffinity(0))
    except (AttributeError, NameError):  # pragma: no cover (other systems)
        return cpu_count() or 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="triton-native")


@dataclass(kw_only=True)
class CompiledKernel:
    """Machine code of a kernel.

    Attributes:
        name: the kernel's name.
        signature: the type of each parameter.
        parameters: the types that the machine code takes, scratch pointers at the end.
        layout: the memory that a program needs.
        sites: the numbered places of the kernel, for messages.
        loaded: the code.
        checks: what it checks while it runs.
    """

    name: str
    signature: tuple[object, ...]
    parameters: tuple[Type, ...]
    layout: Layout
    sites: tuple[Site, ...]
    loaded: LoadedKernel
    checks: frozenset[Check] = frozenset()
    _idle: list[Worker] = field(default_factory=list)

    @classmethod
    def load(cls, artifact: Artifact, *, checks: frozenset[Check]) -> "CompiledKernel":
        """Load what a compilation made."""
        return cls(
            name=artifact.name,
            signature=artifact.signature,
            parameters=artifact.parameters,
            layout=artifact.layout,
            sites=artifact.sites,
            loaded=engine.load(artifact.image),
            checks=checks,
        )

    def launch(
        self,
        grid: Sequence[int],
        given: Mapping[str, object],
        *,
        threads: int,
        seed: int | None,
        outputs: Sequence[str] = (),
    ) -> None:
        """Run every program of `grid`.

        Args:
            grid: how many programs by axis, one to three numbers.
            given: the arguments, by parameter.
            threads: how many threads to use at most.
            seed: shuffles the order of the programs; None for ascending.
            outputs: arguments that hold nothing yet, and have to be written whole.

        Raises:
            KernelError: if a check fails.
            UnsupportedError: if lanes that have to meet don't.
            AssertionError: if a `tl.device_assert` fails.
        """
        grid = _three(grid)
        total = prod(grid)
        if not total:
            return
        passed = list(flatten(self.signature, list(given.values())))
        arguments = pack(self.parameters, passed)
        counter = ctypes.c_int64(0)
        order = _order(total, seed)
        extents = extents_of(given) if self.checks else []
        limits = table(extents)
        notes = notes_of(extents if Check.WRITERS in self.checks else [])
        marks = marks_of(extents, outputs) if Check.UNWRITTEN in self.checks else None
        workers = [self._worker() for _ in range(min(threads, total))]
        for worker in workers:
            context = worker.context
            context.grid[:] = grid
            context.counter = ctypes.addressof(counter)
            context.total = total
            context.order = order.buffer_info()[0] if order else None
            context.chunk = max(1, total // (16 * len(workers)))
            context.extents, context.extent_count = limits.buffer_info()[0], len(extents)
            context.notes = notes.data_ptr()
            context.marks = None if marks is None else marks.data_ptr()
            context.error = 0
        address = ctypes.addressof(arguments)
        if len(workers) == 1:
            workers[0].run(address)
        else:
            list(_pool(threads).map(lambda worker: worker.run(address), workers))
        failed = next((worker for worker in workers if worker.context.error), None)
        if failed:
            raise explain(self.name, self.sites, failed.context, extents)
        if marks is not None:
            require_written(self.name, extents, outputs, marks)
        self._idle += workers

    def _worker(self) -> Worker:
        try:
            return self._idle.pop()
        except IndexError:
            return Worker(self.loaded, self.layout)


def _three(grid: Sequence[int]) -> tuple[int, int, int]:
    if not 1 <= len(grid) <= 3:
        raise ValueError(f"a grid has one to three axes, got {len(grid)}")
    x, y, z = (*(int(size) for size in grid), 1, 1)[:3]
    if min(x, y, z) < 0:
        raise ValueError(f"a grid's sizes must not be negative, got {tuple(grid)}")
    return x, y, z


def _order(total: int, seed: int | None) -> "array[int] | None":
    if seed is None:
        return None
    order = list(range(total))
    random.Random(seed).shuffle(order)  # noqa: S311 (an order, not a secret)
    return array("q", order)
