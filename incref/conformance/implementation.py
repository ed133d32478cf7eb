"""What is judged: kernels by operation, and what their author declares of them."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

import torch

from incref.backends.backend import Backend
from incref.backends.declared import ANY_ORDER, Declared
from incref.conformance.case import Arguments, Case, argument_text
from incref.formats import Format
from incref.ops.contract import Exactness
from incref.ops.table import OPS

__all__ = ["Candidate", "Choice", "Implementation", "Registry", "kernel"]


class Choice(Enum):
    """What an author may declare where contracts leave a choice; it then holds for the whole run (class E1)."""

    ANY_NAN_CODE = "any_nan_code"
    """A NaN is encoded as any NaN of the format; without this, as the one that the contract names."""
    FLUSHES_INPUTS = "flushes_inputs"
    """Every subnormal element of `x` counts as a zero of its sign, without exception."""
    EXACT_SUMS = "exact_sums"
    """Sums of products are exact until they are rounded once, so that no bound is needed: there is one right answer."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An implementation of one operation.

    Attributes:
        op: name of the operation.
        fn: takes the arguments of the operation's reference, and returns what it returns.
        options: for some arguments by name, the values that `fn` takes; any other is not supported.
        supports: whether `fn` takes a case, or a reason why not.
        choices: which of the choices that contracts leave are made.
        accumulator: what is known of the accumulator, for operations of class E2.
        takes_out: whether results are written to an argument `out`, a tensor or a tuple of them.
    """

    op: str
    fn: Callable[..., object]
    options: Mapping[str, Collection[object]] = field(default_factory=dict)
    supports: Callable[[Case], bool | str | None] = lambda _: True
    choices: frozenset[Choice] = frozenset()
    accumulator: Declared = ANY_ORDER
    takes_out: bool = False

    def __post_init__(self) -> None:
        """Refuse operations and options that do not exist."""
        if self.op not in OPS:
            raise ValueError(f"no operation is called {self.op!r}; there are {', '.join(OPS)}")
        known = inspect.signature(OPS[self.op].reference).parameters
        if unknown := set(self.options) - set(known):
            raise ValueError(f"{self.op} takes the arguments {', '.join(known)}, got options for {sorted(unknown)}")

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run it."""
        return self.fn(*args, **kwargs)

    def call(self, arguments: Arguments, out: object = None) -> object:
        """Run it on arguments by name; those that the reference takes by position are given by position."""
        positional, named = [], dict(arguments)
        for name, parameter in inspect.signature(OPS[self.op].reference).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY or name not in named:
                break
            positional.append(named.pop(name))
        if self.takes_out:
            named["out"] = out
        return self.fn(*positional, **named)

    def why_not(self, case: Case) -> str | None:
        """Say why a case is not supported, or None if it is."""
        for name, allowed in self.options.items():
            value = case.arguments.get(name, inspect.signature(OPS[self.op].reference).parameters[name].default)
            if isinstance(value, Format):
                value = value.name
            if value not in allowed:
                return f"{name}={argument_text(value)} is not among the declared options"
        answer = self.supports(case)
        if answer is None or answer is True:
            return None
        return answer or "supports() is false"

    def declaration(self) -> dict[str, object]:
        """What is declared, for reports."""
        options = {name: sorted(argument_text(one) for one in some) for name, some in sorted(self.options.items())}
        return {
            "options": options,
            "choices": sorted(choice.value for choice in self.choices),
            "accumulator": repr(self.accumulator),
            "takes_out": self.takes_out,
        }


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """A named table of candidates.

    Attributes:
        name: of the implementation.
        candidates: by name of the operation.
    """

    name: str
    candidates: Mapping[str, Candidate]

    @staticmethod
    def of(name: str, *candidates: Candidate) -> "Implementation":
        """Make a table of candidates.

        Raises:
            ValueError: if two are of one operation, or there is none.
        """
        table = {candidate.op: candidate for candidate in candidates}
        if not table or len(table) != len(candidates):
            raise ValueError(
                f"an implementation has one kernel an operation and at least one, got {[c.op for c in candidates]}"
            )
        return Implementation(name=name, candidates=MappingProxyType(table))

    @staticmethod
    def of_backend(backend: Backend, device: torch.device | str = "cpu") -> "Implementation":
        """Judge the kernels of a backend; what its `why_not` declines is not supported.

        Args:
            backend: its table.
            device: that it is judged on, which decides what its kernels declare of their accumulators.
        """
        candidates = []
        for op, one in backend.kernels.items():
            candidate = Candidate(op=op, fn=one.fn, accumulator=one.accumulator_on(torch.device(device)))
            declines = replace(candidate, fn=one.why_not)

            def supports(case: Case, declines: Candidate = declines) -> str | None:
                reason = declines.call(case.arguments)
                return None if reason is None else str(reason)

            candidates.append(replace(candidate, supports=supports))
        return Implementation.of(backend.name, *candidates)

    @staticmethod
    def reference() -> "Implementation":
        """The references themselves, to be held to the oracle."""
        exact = frozenset({Choice.EXACT_SUMS})
        return Implementation.of(
            "reference",
            *(
                Candidate(op=op.name, fn=op.reference, choices=exact if op.exactness is Exactness.E2 else frozenset())
                for op in OPS.values()
            ),
        )


def kernel(
    op: str,
    *,
    options: Mapping[str, Collection[object]] | None = None,
    supports: Callable[[Case], bool | str | None] = lambda _: True,
    choices: Collection[Choice] = (),
    accumulator: Declared | None = None,
    takes_out: bool = False,
) -> Callable[[Callable[..., object]], Candidate]:
    """Decorate a function as an implementation of `op`; see `Candidate`.

    >>> @kernel("decode", options={"fmt": ["float8_e5m2"]})
    ... def my_decode(codes, fmt, *, dtype=None): ...
    >>> my_decode.op
    'decode'
    """

    def wrap(fn: Callable[..., object]) -> Candidate:
        return Candidate(
            op=op,
            fn=fn,
            options=options or {},
            supports=supports,
            choices=frozenset(choices),
            accumulator=accumulator or ANY_ORDER,
            takes_out=takes_out,
        )

    return wrap


class Registry:
    """What a `register` function is handed: it adds implementations to it."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._found: dict[str, Implementation] = {}

    def add(self, name: str, *candidates: Candidate) -> None:
        """Add an implementation.

        Args:
            name: of the implementation.
            candidates: one an operation.

        Raises:
            ValueError: if there is one of that name.
        """
        if name in self._found:
            raise ValueError(f"an implementation called {name!r} is registered already")
        self._found[name] = Implementation.of(name, *candidates)

    @property
    def implementations(self) -> tuple[Implementation, ...]:
        """All that were added, in their order."""
        return tuple(self._found.values())
