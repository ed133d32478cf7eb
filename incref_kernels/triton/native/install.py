"""Let every launch of a Triton kernel run on the CPU, in programs that know nothing of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.native import Grid, native

__all__ = ["Launched", "installed"]


class Launched(Protocol):
    """What a kernel is made."""

    def __getitem__(self, grid: Grid, /) -> Callable[..., None]:
        """Give what takes the arguments of the kernel's programs."""


@contextmanager
def installed(make: Callable[[object], Launched] = native) -> Iterator[None]:
    """Run kernels natively inside the `with` block, however they are launched.

    `@triton.autotune` takes the first configuration that its pruning leaves. `triton.runtime.driver.active` says that
    the device is the CPU, and describes the GPU that kernels are compiled for.

    Args:
        make: what makes a kernel native, `native` with options for instance.
    """
    kernels: dict[int, tuple[object, Launched]] = {}

    def run(kernel: object, *args: object, grid: Grid, warmup: bool = False, **kwargs: object) -> None:
        # The kernel is kept: the number of an object that is gone may be given again.
        if id(kernel) not in kernels:
            kernels[id(kernel)] = (kernel, make(kernel))
        if not warmup:
            kernels[id(kernel)][1][grid](*args, **kwargs)

    with triton_internals.launches_replaced(run):
        yield
