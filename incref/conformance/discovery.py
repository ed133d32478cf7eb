"""Finds the implementation that is to be judged: by the name of a backend, an entry point, or a place in a module."""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature

import torch

from incref.backends.backend import Backend
from incref.backends.device import require_device
from incref.backends.discovery import available_backends, find_backend
from incref.conformance.implementation import Candidate, Implementation, Registry
from incref.conformance.pipe import pipe_implementation
from incref.errors import UnsupportedError

__all__ = ["GROUP", "find_implementations", "installed_implementations"]

_PROGRAM = "cmd:"
GROUP = "incref.kernels"
"""The entry point group; each entry is a function that is called with a `Registry`."""


def find_implementations(name: str, device: torch.device | str = "cpu") -> tuple[Implementation, ...]:
    """Find what `name` stands for.

    Args:
        name: `reference`; a backend such as `triton`; an entry point of `incref.kernels`; `cmd:` and a program that
            speaks the protocol of `incref.conformance.pipe`; or `package.module:thing`, a register function, a
            candidate, an implementation or a backend. Without `:thing`, all candidates of the module.
        device: that a backend is judged on.

    Raises:
        UnsupportedError: if there is nothing, no such device, or a backend can't run here. What importing raises is
            not caught.
    """
    require_device(device)
    if name == "reference":
        return (Implementation.reference(),)
    if name.startswith(_PROGRAM):
        return (pipe_implementation(name.removeprefix(_PROGRAM))[0],)
    if ":" in name or "." in name:
        module, _, thing = name.partition(":")
        return _implementations_of(name, module, thing, device)
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name in points:
        return _loaded(name, points[name].load())
    backend = find_backend(name)
    if (why := backend.why_unavailable()) is not None:
        raise UnsupportedError(f"backend {name!r} can't run here: {why}")
    return (Implementation.of_backend(backend, device),)


def installed_implementations() -> dict[str, str | None]:
    """Names that can be asked for, with the reason why one can't run here, or None."""
    return {**available_backends(), **dict.fromkeys(sorted(point.name for point in entry_points(group=GROUP)))}


def _implementations_of(name: str, module: str, thing: str, device: torch.device | str) -> tuple[Implementation, ...]:
    found = import_module(module)
    if not thing:
        return _loaded(name, [one for one in vars(found).values() if isinstance(one, Candidate)])
    if not hasattr(found, thing):
        raise UnsupportedError(f"module {module} has no {thing!r}")
    named = getattr(found, thing)
    return (Implementation.of_backend(named, device),) if isinstance(named, Backend) else _loaded(name, named)


def _loaded(name: str, found: object) -> tuple[Implementation, ...]:
    if isinstance(found, Implementation):
        return (found,)
    candidates = list(_candidates(found))
    if candidates:
        return (Implementation.of(name, *candidates),)
    if not callable(found) or not _takes_registry(found):
        raise UnsupportedError(
            f"{name} must be a candidate, an implementation, or a function of one argument, the registry, that "
            f"registers candidates; got {found!r}"
        )
    registry = Registry()
    found(registry)
    if not registry.implementations:
        raise UnsupportedError(f"{name} registered nothing")
    return registry.implementations


def _takes_registry(found: Callable[..., object]) -> bool:
    try:
        signature(found).bind(Registry())
    except (TypeError, ValueError):
        return False
    return True


def _candidates(found: object) -> Iterator[Candidate]:
    if isinstance(found, Candidate):
        yield found
    elif isinstance(found, list | tuple):
        yield from (one for one in found if isinstance(one, Candidate))
