"""One question to an implementation: an operation, its arguments, and how the right answer is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from incref.backends.declared import Declared
from incref.conformance.allowed import Interval
from incref.formats import Format
from incref.ops.table import OPS

__all__ = ["Arguments", "Bounded", "Case", "Exact", "Expected", "Placement", "Related", "argument_text"]

Arguments = Mapping[str, object]
"""Arguments of an operation by name: tensors, formats by name, modes."""


class Placement(Enum):
    """Where the arguments lie in memory, and what else is looked at."""

    PLAIN = "plain"
    """Contiguous, between guard bands of poison."""
    OFFSET = "offset"
    """The same, beginning one element beyond any alignment."""
    STRIDED = "strided"
    """Every second element of the last dimension is poison."""
    TRANSPOSED = "transposed"
    """The first dimension is the one that runs fastest."""
    REUSED = "reused"
    """The buffers held other values in a call before, memory that is allocated holds NaN, and the call is repeated."""


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The answer is one: that of the reference, bit for bit, a NaN for a NaN.

    Attributes:
        bits: how many bits below its first an accumulator has to keep for the answer to be the only one; 0 for
            operations that do not accumulate.
    """

    bits: int = 0


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """The answer lies where the declared accumulator may get.

    Attributes:
        allowed: the interval of every element of the result, from arguments and accumulator.
    """

    allowed: Callable[[Arguments, Declared], Interval]


@dataclass(frozen=True, kw_only=True)
class Related:
    """The answer follows, bit for bit but for signs of zeros, from the answer to other arguments (class E4).

    Nothing is said of what is right, so this can be asked where nobody knows the right bits.

    Attributes:
        other: makes the other arguments.
        back: makes the answer to the case of the answer to these.
    """

    other: Callable[[Arguments], Arguments]
    back: Callable[[Tensor], Tensor]


Expected = Exact | Bounded | Related


@dataclass(frozen=True, kw_only=True)
class Case:
    """A question to an implementation.

    Attributes:
        op: name of the operation.
        generator: name of what drew the case.
        name: tells it from the others of its generator.
        level: the lowest level that it belongs to.
        draw: makes the arguments, the same ones each time.
        expected: how the right answer is known.
        placement: where the arguments lie in memory.
    """

    op: str
    generator: str
    name: str
    level: int
    draw: Callable[[], Arguments]
    expected: Expected = Exact()
    placement: Placement = Placement.PLAIN

    @property
    def key(self) -> str:
        """Its name among all cases, the same in every run with the same seed."""
        where = "" if self.placement is Placement.PLAIN else f"/{self.placement.value}"
        return f"{self.op}@{OPS[self.op].version}/{self.generator}/{self.name}{where}"

    @cached_property
    def arguments(self) -> Arguments:
        """The arguments by name, those that were left out not among them."""
        return MappingProxyType(dict(self.draw()))

    @property
    def formats(self) -> frozenset[str]:
        """Names of the formats among the arguments."""
        found = (self.arguments.get(name) for name in ("fmt", "x_fmt", "w_fmt"))
        return frozenset(one if isinstance(one, str) else one.name for one in found if isinstance(one, str | Format))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors among the arguments."""
        return {name: one for name, one in self.arguments.items() if isinstance(one, Tensor)}

    def forget(self) -> None:
        """Let go of the arguments; they are drawn again when they are asked for."""
        self.__dict__.pop("arguments", None)


def argument_text(value: object) -> str:
    """Say what an argument is, in a few characters."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return str(value)
