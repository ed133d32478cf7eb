"""A backend is a table of kernels, one for each operation that it implements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Backend", "Kernel"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One implementation of an operation.

    Attributes:
        fn: takes the arguments of the operation and returns what its reference returns.
        why_not: takes the same arguments; the reason why `fn` can't take them, or None if it can.
    """

    fn: Callable[..., object]
    why_not: Callable[..., str | None]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A named table of kernels.

    Attributes:
        name: what `Op.on` is given.
        why_unavailable: the reason why this machine can't run the kernels, or None if it can.
        kernels: by name of the operation.
    """

    name: str
    why_unavailable: Callable[[], str | None]
    kernels: Mapping[str, Kernel]
