"""The ways in which the kernels are run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from triton import knobs

from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.install import installed
from incref_kernels.triton.native.native import native

__all__ = ["WAYS"]


@contextmanager
def _mistakes() -> Iterator[None]:
    """Look for accesses out of bounds, elements of two programs, races in shared memory, and what `debug` finds."""
    with knobs.runtime.scope(), installed(partial(native, bounds=True, writers=True, shared=True, seed=1)):
        knobs.runtime.debug = True
        yield


def _interpreter() -> AbstractContextManager[None]:
    """Give Triton's interpreter a driver, which it hasn't, and one configuration, where it would try all."""
    return triton_internals.launches_replaced(_refuse)


def _refuse(kernel: object, *_: object, **__: object) -> None:
    raise RuntimeError(f"{kernel} was to be interpreted: set TRITON_INTERPRET=1")


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "native": installed,
    "mistakes": _mistakes,
    "nans": lambda: installed(partial(native, nans=True)),
    "interpreter": _interpreter,
}
