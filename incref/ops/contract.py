"""What an operation promises: signature, options, exactness and the reference that is its meaning."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Generic, ParamSpec, TypeVar, cast

import torch

from incref.backends.backend import Backend
from incref.backends.discovery import find_backend
from incref.errors import UnsupportedError
from incref.numerics.constant import constant_in_graphs
from incref.ops.operator import GraphCall, in_graph, stays_whole

__all__ = ["Arg", "Exactness", "Op", "Tolerance", "op"]

P = ParamSpec("P")
R = TypeVar("R")

_REFERENCE = "reference"


class Exactness(Enum):
    """How close every implementation of an operation has to be to its reference."""

    E0 = "bitwise"
    """The same bits, sign of zero included; a NaN for a NaN."""
    E1 = "set-valued"
    """One of a finite set of answers, chosen by a declared option for a whole run."""
    E2 = "bounded"
    """Within a bound that is derived from the declared accumulator, on the grid of the output."""
    E4 = "property"
    """A stated property holds."""


@dataclass(frozen=True, kw_only=True)
class Arg:
    """A tensor argument or result of an operation.

    Attributes:
        name: of the parameter; results are named in the order of the tuple.
        dtype: the dtypes it may have, in words.
        shape: its shape, by the names of dimensions.
    """

    name: str
    dtype: str
    shape: str


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What `Exactness.E2` allows an implementation of an operation.

    Attributes:
        exact_on: the arguments for which every implementation gives the reference's bits.
        bound: how far it may be from the exact result elsewhere; nothing in it is a free constant.
        proof: where in the repository the bound is derived.
    """

    exact_on: str
    bound: str
    proof: str


class Op(Generic[P, R]):
    """An operation: call it to run the reference, or `op.on(backend)(...)` to run that backend's kernel.

    Attributes:
        name: of the operation.
        version: `major.minor`; the major one changes when a result does.
        exactness: how close implementations have to be.
        args: the tensors that it takes.
        results: the tensors that it returns.
        tolerance: what E2 allows; None for every other class.
        looks_at_values: of arguments, whether the reference decides by their values what it does.
        reference: the function that is its meaning.
    """

    _whole: GraphCall

    def __init__(
        self,
        reference: Callable[P, R],
        *,
        version: str,
        exactness: Exactness,
        args: tuple[Arg, ...],
        results: tuple[Arg, ...],
        tolerance: Tolerance | None = None,
        looks_at_values: Callable[..., bool] | None = None,
    ) -> None:
        """Make an operation of its reference."""
        if (exactness is Exactness.E2) != (tolerance is not None):
            raise ValueError(f"a tolerance goes with E2, and E2 with one, got {exactness.name} and {tolerance}")
        self.name = reference.__name__
        self.version = version
        self.exactness = exactness
        self.args = args
        self.results = results
        self.tolerance = tolerance
        self.looks_at_values = looks_at_values or _never
        self.reference = reference
        self.__name__ = reference.__name__
        self.__module__ = reference.__module__
        self.__doc__ = reference.__doc__
        self.__wrapped__ = reference

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the reference. In a graph of `torch.compile` it is traced, or held whole: see `stays_whole`."""
        if torch.compiler.is_compiling() and stays_whole(self, args, kwargs):
            self._define_whole()
            return cast("R", self._whole(*args, **kwargs))
        return self.reference(*args, **kwargs)

    @constant_in_graphs
    def _define_whole(self) -> bool:
        """Make the operator of the reference, once. PyTorch runs this when it traces a call, and traces it not."""
        self._whole = in_graph(self, _REFERENCE, self.reference, None)
        return True

    def __reduce__(self) -> str:
        """Pickle by name: it is a global of its module, as a function is."""
        return self.__name__

    def __repr__(self) -> str:
        """Name and version."""
        return f"<op {self.name}@{self.version}>"

    @cached_property
    def options(self) -> Mapping[str, type[Enum]]:
        """Parameters that choose among named behaviours, with the enum of each."""
        found: dict[str, type[Enum]] = {}
        for name, parameter in inspect.signature(self.reference).parameters.items():
            kinds = getattr(parameter.annotation, "__args__", (parameter.annotation,))
            for kind in kinds:
                if isinstance(kind, type) and issubclass(kind, Enum):
                    found[name] = kind
        return MappingProxyType(found)

    def on(self, backend: str | Backend, *, fallback: str | None = None) -> Callable[P, R]:
        """Return the kernel of `backend`, or the reference for "reference".

        Args:
            backend: a backend, or the name of an installed one.
            fallback: "reference" to run the reference for arguments that the kernel declines; None to raise.

        Raises:
            UnsupportedError: if the backend is unknown, can't run here, or has no kernel for this operation; and, when
                called, if the kernel declines the arguments and there is no fallback.
        """
        if fallback not in (None, _REFERENCE):
            raise ValueError(f'fallback must be None or "reference", got {fallback!r}')
        if backend == _REFERENCE:
            return self
        table = backend if isinstance(backend, Backend) else find_backend(backend)
        reason = table.why_unavailable()
        if reason is None and self.name not in table.kernels:
            reason = f"it has no kernel for {self.name}"
        if reason is not None:
            if fallback:
                return self
            raise UnsupportedError(f"backend {table.name!r} can't run {self.name}: {reason}")
        kernel = table.kernels[self.name]
        whole = in_graph(self, table.name, kernel.fn, fallback) if table.keeps_whole(kernel) else None

        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            in_place = whole if torch.compiler.is_compiling() else None
            why = (in_place or kernel).why_not(*args, **kwargs)
            if why is None:
                return cast("R", (in_place or kernel.fn)(*args, **kwargs))
            if fallback:
                return self(*args, **kwargs)
            raise UnsupportedError(f"{self.name} on backend {table.name!r} declines these arguments: {why}")

        return run


def op(
    *,
    version: str,
    exactness: Exactness,
    args: tuple[Arg, ...],
    results: tuple[Arg, ...],
    tolerance: Tolerance | None = None,
    looks_at_values: Callable[..., bool] | None = None,
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Decorate the reference of an operation with its contract."""

    def wrap(reference: Callable[P, R]) -> Op[P, R]:
        return Op(
            reference,
            version=version,
            exactness=exactness,
            args=args,
            results=results,
            tolerance=tolerance,
            looks_at_values=looks_at_values,
        )

    return wrap


def _never(*_: object, **__: object) -> bool:
    return False
