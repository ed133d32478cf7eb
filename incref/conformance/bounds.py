"""How far a sum of products can be from exact, for a declared accumulator.

Every formula is derived in `conformance/contracts/accumulation.md`, whose numbers (B0 to B6) stand beside it here. The
formulas are evaluated in float64, and what that itself may lose is added at the end (B6).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.backends.declared import AnyGroups, AnyOf, AnyOrder, Declared, in_any_order
from incref.formats import FloatFormat, Rounding
from incref.numerics.accumulate.aligned import Operand, make_operand
from incref.numerics.accumulate.float_parts import last_bit_of, power_of
from incref.numerics.accumulate.models import Aligned, AlignTo, Carry, Pairwise, Promoted, Reordered, Sequential, SplitK

__all__ = ["error_bound"]

_FLOAT32_BITS = 23
_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
_ROUNDOFF = torch.finfo(torch.float64).eps


@dataclass(frozen=True, kw_only=True)
class _Partial:
    """A sum on the way.

    Attributes:
        exact: what it would be without roundings, float64.
        error: how far the rounded one may be from that.
    """

    exact: Tensor
    error: Tensor

    @property
    def most(self) -> Tensor:
        """The largest magnitude that the rounded sum may have."""
        return self.exact.abs() + self.error


def error_bound(a: Tensor, b: Tensor, a_fmt: FloatFormat, b_fmt: FloatFormat, declared: Declared) -> Tensor:
    """Bound `abs(acc - a @ b.T)` for every sum `acc` that the declared accumulator may give, in float32.

    Args:
        a: finite values of `a_fmt` [M, K].
        b: finite values of `b_fmt` [N, K].
        a_fmt: format of `a`.
        b_fmt: format of `b`.
        declared: the accumulator.

    Returns:
        float64 [M, N]; Inf where the bound is no less than the sum of all magnitudes, or a sum may leave float32.

    Raises:
        ValueError: if a value is not finite.
    """
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("bounds are for finite values; NaN and Inf are judged by the reference alone")
    if a.shape[1] == 0:
        return torch.zeros(a.shape[0], b.shape[0], dtype=torch.float64, device=a.device)
    left, right = make_operand(a, a_fmt), make_operand(b, b_fmt)
    rows = []
    for row in range(a.shape[0]):
        one = Operand(value=left.value[row], power=left.power[row])
        rows.append(_bound(one, right, declared))
    found = torch.stack(rows) if rows else torch.zeros(0, b.shape[0], dtype=torch.float64)
    total = left.value.abs() @ right.value.abs().T
    terms = (left.value != 0).to(torch.float64) @ (right.value != 0).to(torch.float64).T + 1
    # B6: the sums and bounds computed here, each with a few roundings for every term.
    found = found * (1 + 8 * terms * _ROUNDOFF) + total * (8 * terms * _ROUNDOFF) * (found > 0)
    is_loose = (found >= total) & (total > 0)
    return torch.where(is_loose | (total + found > torch.finfo(torch.float32).max), torch.inf, found)


def _bound(a: Operand, b: Operand, declared: Declared) -> Tensor:
    """The bound for one row against all columns, [N]."""
    match declared:
        case AnyOrder() | Sequential() | Pairwise():
            how = declared if isinstance(declared, AnyOrder) else in_any_order(declared)
            assert isinstance(how, AnyOrder)
            return _any_order(a, b, how)
        case AnyGroups():
            return _any_groups(a, b, declared)
        case AnyOf():
            return torch.stack([_bound(a, b, one) for one in declared.models]).amax(0)
        case Aligned():
            return _in_groups(a, b, declared).error
        case Reordered():
            return _in_groups(a.reordered(declared.order), b.reordered(declared.order), declared.inner).error
        case Promoted() | SplitK():
            return _in_stretches(a, b, declared).error


def _any_order(a: Operand, b: Operand, how: AnyOrder) -> Tensor:
    """B1 for sums to nearest, B2 for sums toward zero, and B3 for what falls below the normal numbers."""
    product = a.value * b.value
    count = (product != 0).sum(-1).to(torch.float64)
    is_nearest = how.rounding is Rounding.NEAREST_EVEN
    unit = 2.0 ** -(how.fraction_bits + is_nearest)
    roundings = count if how.rounds_products else (count - 1).clamp(min=0)
    growth = (1 + unit) ** roundings
    relative = roundings * unit if is_nearest else growth - 1
    least = _SMALLEST_NORMAL * 2.0**-how.fraction_bits
    may_fall = ((product / least).frac() != 0).any(-1)
    fallen = torch.where(may_fall, count * least * (0.5 if is_nearest else 1.0), 0.0)
    if how.flushes:
        fallen = fallen + (count + roundings) * _SMALLEST_NORMAL
    total = product.abs().sum(-1)
    return torch.where(_is_exact(product, how.fraction_bits), 0.0, relative * total + fallen * growth)


def _is_exact(product: Tensor, bits: int) -> Tensor:
    """B0: whether any sum of products has at most `bits` bits below its first, and none is below the normal numbers."""
    last = last_bit_of(product).amin(-1)
    largest = torch.maximum(product.clamp(min=0).sum(-1), -product.clamp(max=0).sum(-1))
    return (largest < 2 * last * 2.0**bits) & (last >= _SMALLEST_NORMAL)


def _any_groups(a: Operand, b: Operand, how: AnyGroups) -> Tensor:
    """B5: every sum on the way as large as all magnitudes together and the bound itself."""
    product, power = a.value * b.value, (a.power * b.power).amax(-1)
    magnitude = product.abs()
    total, count = magnitude.sum(-1), (magnitude != 0).sum(-1).to(torch.float64)
    groups = -(-magnitude.shape[-1] // how.group)
    # No sum on the way exceeds S and its error; with an error of at most S, which is asked in the end, that is 2 * S.
    # A subnormal factor may count with an exponent beyond its own.
    top = torch.maximum(power_of(2 * total), power).clamp(min=_SMALLEST_NORMAL)
    bound = (count + groups) * top * 2.0**-how.fraction_bits + 2 * groups * top * 2.0**-how.result_bits
    if how.flushes:
        bound = bound + 2 * groups * _SMALLEST_NORMAL
    is_exact = _is_exact(product, min(how.fraction_bits, how.result_bits))
    is_exact &= power * 2.0**-how.fraction_bits <= last_bit_of(product).amin(-1)
    return torch.where(is_exact, 0.0, bound)


def _in_groups(a: Operand, b: Operand, how: Aligned) -> _Partial:
    """B4: group by group, from the exact prefix and the error so far."""
    zero = torch.zeros(b.value.shape[0], dtype=torch.float64, device=b.value.device)
    partial = _Partial(exact=zero, error=zero)
    for start in range(0, b.value.shape[1], how.group):
        stop = start + how.group
        product = a.value[start:stop] * b.value[:, start:stop]
        power = a.power[start:stop] * b.power[:, start:stop]
        partial = _add_group(product, power, partial, how)
    return partial


def _add_group(product: Tensor, power: Tensor, before: _Partial, how: Aligned) -> _Partial:
    top = (power if how.align_to is AlignTo.FACTORS else power_of(product)).amax(-1)
    is_aligned = how.carry is Carry.ALIGNED
    if is_aligned:
        top = torch.maximum(top, power_of(before.most))
    unit = top.clamp(min=2.0**how.least_exponent) * 2.0**-how.fraction_bits
    # A multiple of the unit is one of every smaller unit, so it is not rounded whatever the largest exponent is.
    count = (~_is_whole(product / unit.unsqueeze(-1))).sum(-1).to(torch.float64)
    if is_aligned:
        count = count + ((before.error > 0) | ~_is_whole(before.exact / unit))
    error = count * unit * (0.5 if how.term_rounding is Rounding.NEAREST_EVEN else 1.0)
    group = _Partial(exact=product.sum(-1), error=error)
    if is_aligned or how.carry is Carry.UNROUNDED:
        group = _Partial(exact=before.exact + group.exact, error=before.error + error)
    if how.carry is Carry.REALIGNED:
        return _round(_realign(group, top, before, how), how)
    rounded = _round(group, how)
    return _add_float32(before, rounded) if how.carry is Carry.ADDED else rounded


def _realign(group: _Partial, top: Tensor, before: _Partial, how: Aligned) -> _Partial:
    """Cut off the sum of a group and what is carried, each to its own unit; see `Carry.REALIGNED`."""
    assert how.carry_bits is not None
    top = torch.maximum(top.clamp(min=2.0**how.least_exponent), power_of(before.most))
    error = group.error + before.error
    for term, bits in ((group, how.carry_bits), (before, how.fraction_bits)):
        unit = top * 2.0**-bits
        error = error + torch.where((term.error == 0) & _is_whole(term.exact / unit), 0.0, unit)
    return _Partial(exact=before.exact + group.exact, error=error)


def _is_whole(x: Tensor) -> Tensor:
    return x == x.trunc()


def _round(partial: _Partial, how: Aligned) -> _Partial:
    """Add the error of rounding a sum; one that is exact and has no more bits than the result keeps its error of 0."""
    step = power_of(partial.most).clamp(min=_SMALLEST_NORMAL) * 2.0**-how.result_bits
    part = 0.5 if how.result_rounding is Rounding.NEAREST_EVEN else 1.0
    is_exact = (partial.error == 0) & _is_whole(partial.exact / step)
    error = partial.error + torch.where(is_exact, 0.0, part * step)
    if how.flushes:
        error = error + torch.where(partial.most > 0, _SMALLEST_NORMAL, 0.0)
    return _Partial(exact=partial.exact, error=error)


def _add_float32(one: _Partial, other: _Partial) -> _Partial:
    """Add in float32, to nearest even; adding to a sum that is 0 is exact."""
    exact, error = one.exact + other.exact, one.error + other.error
    step = power_of(exact.abs() + error).clamp(min=_SMALLEST_NORMAL) * 2.0**-_FLOAT32_BITS
    # What float64 could not add is no sum of float32 either.
    was_added = (exact - one.exact == other.exact) & (exact - other.exact == one.exact)
    is_exact = (one.most == 0) | (other.most == 0) | ((error == 0) & was_added & _is_whole(exact / step))
    return _Partial(exact=exact, error=error + torch.where(is_exact, 0.0, 0.5 * step))


def _in_stretches(a: Operand, b: Operand, how: Promoted | SplitK) -> _Partial:
    """B4 for every stretch or part, and the additions of their sums."""
    length = b.value.shape[1]
    if isinstance(how, SplitK):
        tiles = -(-length // how.tile)
        least, more = divmod(tiles, how.parts)
        sizes = [(least + (part < more)) * how.tile for part in range(how.parts)]
    else:
        sizes = [how.every] * -(-length // how.every)
    zero = torch.zeros(b.value.shape[0], dtype=torch.float64, device=b.value.device)
    total, start = _Partial(exact=zero, error=zero), 0
    for size in sizes:
        if start == length:
            break
        part = Operand(value=a.value[start : start + size], power=a.power[start : start + size])
        stretch = _stretch(part, b.part(start, start + size), how.inner)
        total, start = _add_float32(total, stretch), start + size
    return total


def _stretch(a: Operand, b: Operand, how: Sequential | Pairwise | Aligned | Promoted) -> _Partial:
    match how:
        case Aligned():
            return _in_groups(a, b, how)
        case Promoted():
            return _in_stretches(a, b, how)
        case _:
            return _Partial(exact=(a.value * b.value).sum(-1), error=_bound(a, b, how))
