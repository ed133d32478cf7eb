"""What is probed: something that multiplies matrices, and a model that stands in for it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from incref.formats import FloatFormat
from incref.numerics.accumulate.evaluate import accumulate, accumulate_rows
from incref.numerics.accumulate.models import Accumulator

__all__ = ["Machine", "ModelMachine", "Unshuffled"]


class Machine(Protocol):
    """A matrix unit with the software that drives it.

    Attributes:
        name: of the combination.
        a_fmt: format of the left operand.
        b_fmt: format of the right operand.
        takes_carried: whether its sums can start from given values.
    """

    name: str
    a_fmt: FloatFormat
    b_fmt: FloatFormat
    takes_carried: bool

    def product(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """Compute `a @ b.T + carried`: float32 values of the formats, [M, K] and [N, K], to float32 [M, N]."""

    def rows(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """Compute the dot product of every row of `a` with that of `b`: [T, K] each, and [T], to float32 [T]."""


@dataclass(frozen=True, kw_only=True)
class ModelMachine:
    """A model in the place of a machine, so that what is inferred can be compared with what is true."""

    name: str
    a_fmt: FloatFormat
    b_fmt: FloatFormat
    model: Accumulator
    takes_carried: bool = False

    def product(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        return accumulate(a, b, self.a_fmt, self.b_fmt, self.model, carried=carried)

    def rows(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        return accumulate_rows(a, b, self.a_fmt, self.b_fmt, self.model, carried=carried)


@dataclass(frozen=True, kw_only=True)
class Unshuffled:
    """A machine that takes products in an order of its own, given them so that it takes them in that of K."""

    machine: Machine
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        """That of the machine."""
        return self.machine.name

    @property
    def a_fmt(self) -> FloatFormat:
        """That of the machine."""
        return self.machine.a_fmt

    @property
    def b_fmt(self) -> FloatFormat:
        """That of the machine."""
        return self.machine.b_fmt

    @property
    def takes_carried(self) -> bool:
        """That of the machine."""
        return self.machine.takes_carried

    def product(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`; K is filled up with zeros to a multiple of the period."""
        return self.machine.product(self._shuffle(a), self._shuffle(b), carried)

    def rows(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`; K is filled up with zeros to a multiple of the period."""
        return self.machine.rows(self._shuffle(a), self._shuffle(b), carried)

    def _shuffle(self, x: Tensor) -> Tensor:
        filled = torch.nn.functional.pad(x, (0, -x.shape[-1] % len(self.order)))
        blocks = filled.unflatten(-1, (filled.shape[-1] // len(self.order), len(self.order)))
        shuffled = torch.empty_like(blocks)
        shuffled[..., list(self.order)] = blocks
        return shuffled.flatten(-2)
