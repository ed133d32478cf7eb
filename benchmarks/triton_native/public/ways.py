"""The ways in which the kernels are run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from triton import knobs

from benchmarks.triton_native.public.unwritten import watched
from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.install import installed
from incref_kernels.triton.native.native import Grid, native
from incref_kernels.triton.native.order import assert_order_independent

__all__ = ["WAYS"]


@contextmanager
def _mistakes() -> Iterator[None]:
    """Look for accesses out of bounds, elements of two programs, races in shared memory, and what `debug` finds."""
    with knobs.runtime.scope(), installed(partial(native, bounds=True, writers=True, shared=True, seed=1)):
        knobs.runtime.debug = True
        yield


class _InOrders:
    """A kernel whose every launch is run in several orders of its programs, which have to give the same."""

    def __init__(self, kernel: object) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: Grid) -> Callable[..., None]:
        return partial(assert_order_independent, self._kernel, grid)


def _interpreter() -> AbstractContextManager[None]:
    """Give Triton's interpreter a driver, which it hasn't, and one configuration, where it would try all."""
    return triton_internals.launches_replaced(_refuse)


def _refuse(kernel: object, *_: object, **__: object) -> None:
    raise RuntimeError(f"{kernel} was to be interpreted: set TRITON_INTERPRET=1")


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "native": installed,
    "mistakes": _mistakes,
    "orders": lambda: installed(_InOrders),
    "outputs": watched,
    "nans": lambda: installed(partial(native, nans=True)),
    "interpreter": _interpreter,
}
