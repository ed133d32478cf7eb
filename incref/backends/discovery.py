"""Finds the backends that installed packages offer under the entry point group `incref.backends`."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points

from incref.backends.backend import Backend, Kernel
from incref.errors import UnsupportedError

__all__ = ["GROUP", "available_backends", "backends_for", "find_backend", "find_kernel"]

GROUP = "incref.backends"


@cache
def find_backend(name: str) -> Backend:
    """Import the backend called `name`.

    Raises:
        UnsupportedError: if no installed package offers it, or its entry point is not a backend. An exception raised
            while it is imported is not caught.
    """
    offers = {point.name: point for point in entry_points(group=GROUP)}
    if name not in offers:
        known = ", ".join(sorted({"reference", *offers}))
        raise UnsupportedError(f"no backend is called {name!r}; installed: {known}")
    backend = offers[name].load()
    if not isinstance(backend, Backend):
        raise UnsupportedError(f"the entry point {offers[name].value} of backend {name!r} is not a Backend")
    return backend


def available_backends() -> dict[str, str | None]:
    """Every installed backend by name, with the reason why it can't run here, or None.

    >>> available_backends()["reference"] is None
    True
    """
    return {"reference": None, **{name: _why_unavailable(name) for name in _names()}}


def backends_for(device_type: str) -> list[Backend]:
    """The backends that can run here and are fast on devices of that type, such as "cuda", in the order of names."""
    return list(_backends_for(device_type))


def find_kernel(op: str, device_type: str) -> Kernel | None:
    """The kernel for an operation of the first backend that can run here, is fast on such devices and has one."""
    # Backends that are not needed are not imported.
    found = (backend.kernels.get(op) for backend in _backends_for(device_type))
    return next((kernel for kernel in found if kernel is not None), None)


def _backends_for(device_type: str) -> Iterator[Backend]:
    for name in _names():
        if _why_unavailable(name) is None and device_type in find_backend(name).devices:
            yield find_backend(name)


@cache
def _names() -> tuple[str, ...]:
    # It reads a file of every installed package, and whoever quantizes a layer asks.
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def _why_unavailable(name: str) -> str | None:
    try:
        return find_backend(name).why_unavailable()
    except (ImportError, UnsupportedError) as error:
        return f"could not be imported: {error}"
