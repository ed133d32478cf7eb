"""Groups of products added as fixed-point numbers; see `Aligned`. All arithmetic in float64 is exact."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import FloatFormat
from incref.numerics.accumulate.float_parts import add_rounded_once, power_of, round_result, round_units
from incref.numerics.accumulate.models import Aligned, AlignTo, Carry

__all__ = ["Operand", "add_aligned", "make_operand"]


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Factors of products.

    Attributes:
        value: float64.
        power: the power of two of each value's exponent, 0 where it is 0.
    """

    value: Tensor
    power: Tensor

    def part(self, start: int, stop: int) -> "Operand":
        """The factors `start` to `stop` along K."""
        return Operand(value=self.value[..., start:stop], power=self.power[..., start:stop])

    def reordered(self, order: tuple[int, ...]) -> "Operand":
        """Take the factors of every `len(order)` along K in this order, filled up with zeros."""

        def take(x: Tensor) -> Tensor:
            filled = torch.nn.functional.pad(x, (0, -x.shape[-1] % len(order)))
            blocks = filled.unflatten(-1, (filled.shape[-1] // len(order), len(order)))
            taken: Tensor = blocks[..., list(order)].flatten(-2)
            return taken

        return Operand(value=take(self.value), power=take(self.power))


def make_operand(x: Tensor, fmt: FloatFormat) -> Operand:
    """Split values of `fmt`; a subnormal has the exponent of the smallest normal value.

    Args:
        x: values of `fmt`, in any float dtype.
        fmt: their format.
    """
    value = x.to(torch.float64)
    power = power_of(value).clamp_(min=fmt.smallest_normal)
    return Operand(value=value, power=torch.where(value == 0, 0.0, power))


def add_aligned(a: Operand, b: Operand, carried: Tensor, model: Aligned) -> Tensor:
    """Add the products of all groups to `carried`, one group after the other.

    Args:
        a: factors [..., K].
        b: factors that broadcast against them.
        carried: float64 values of float32, in the shape of the result.
        model: how.

    Returns:
        float64 values of float32. A NaN or Inf among the terms does what it does in IEEE
        arithmetic.
    """
    length = a.value.shape[-1]
    for start in range(0, length, model.group):
        stop = min(start + model.group, length)
        carried = _add_group(a.part(start, stop), b.part(start, stop), carried, model)
    return carried


def _add_group(a: Operand, b: Operand, carried: Tensor, model: Aligned) -> Tensor:
    product = a.value * b.value
    power = a.power * b.power if model.align_to is AlignTo.FACTORS else power_of(product)
    top = power.amax(-1)
    if model.carry is Carry.ALIGNED:
        top = torch.maximum(top, power_of(carried))
    unit = top.clamp_(min=2.0**model.least_exponent) * 2.0**-model.fraction_bits
    special = _special_sum(product, carried)
    total = round_units(product.div_(unit.unsqueeze(-1)), model.term_rounding).sum(-1)
    if model.carry is Carry.ALIGNED:
        total += round_units(carried / unit, model.term_rounding)
    total = total * unit
    if model.carry is Carry.REALIGNED:
        total = _realign(total, top, carried, model)
    if model.carry is Carry.UNROUNDED:
        total = add_rounded_once(total, carried).to(torch.float64)
    total = round_result(total, model.result_bits, model.result_rounding, flushes=model.flushes)
    if model.carry is Carry.ADDED:
        total = (total.to(torch.float32) + carried.to(torch.float32)).to(torch.float64)
    return total if special is None else torch.where(special.isfinite(), total, special)


def _realign(total: Tensor, top: Tensor, carried: Tensor, model: Aligned) -> Tensor:
    """Cut off the sum of a group and what is carried, and add them; see `Carry.REALIGNED`."""
    assert model.carry_bits is not None
    top = torch.maximum(top, power_of(carried))
    found = torch.zeros_like(total)
    for term, bits in ((total, model.carry_bits), (carried, model.fraction_bits)):
        unit = top * 2.0**-bits
        found += (term / unit).floor() * unit
    return found


def _special_sum(product: Tensor, carried: Tensor) -> Tensor | None:
    """The sum by IEEE arithmetic, right where it is NaN or Inf; None if nothing is."""
    if product.isfinite().all() and carried.isfinite().all():
        return None
    return product.sum(-1) + carried
