"""What is probed: something that multiplies matrices, and a model that stands in for it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from incref.formats import FloatFormat
from incref.numerics.accumulate.evaluate import accumulate, accumulate_rows
from incref.numerics.accumulate.models import Accumulator

__all__ = ["Machine", "ModelMachine"]


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
