"""Directed probes: each asks one question whose answers differ between the hypotheses.

Every probe uses a large product `2**p`, written *big*, and *small* ones near the last bit that survives beside it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from conformance.accumulators.machine import Machine
from conformance.accumulators.terms import Exponents, Term, exponents_of, run
from incref.formats import Rounding
from incref.numerics.accumulate.models import AlignTo

__all__ = [
    "align_to",
    "fraction_bits",
    "group_order",
    "groups",
    "is_ascending",
    "result_bits",
    "result_rounding",
    "stretch",
    "term_rounding",
    "zeros_align",
]

_SHORT = 32
_CELL = 2


def fraction_bits(machine: Machine, *, last: int = 2, left: float = 1.0, right: float = 1.0) -> int | None:
    """How many bits below the exponent of big a product may lie and still count: big, small, -big.

    Args:
        machine: what is probed.
        last: place of -big; the others have the first two.
        left: a significand of big, to find out by which exponent it is taken.
        right: the other one.

    Returns:
        The number of bits; None if every ladder rung survives that the formats have.
    """
    room = exponents_of(machine)
    steps = range(room.top - room.least + 1)
    cases = [
        [
            Term(place=0, exponent=room.top, left=left, right=right),
            Term(place=1, exponent=room.top - step),
            Term(place=last, exponent=room.top, left=-left, right=right),
        ]
        for step in steps
    ]
    kept = run(machine, cases, _SHORT) != 0
    return None if kept.all() else int((~kept).nonzero()[0]) - 1


def align_to(machine: Machine, bits: int) -> AlignTo | None:
    """Whether 1.5 * 1.5 counts by the exponents of its factors or by its own; None if by neither."""
    found = fraction_bits(machine, left=1.5, right=1.5)
    return {bits: AlignTo.FACTORS, bits - 1: AlignTo.PRODUCTS}.get(-1 if found is None else found)


def term_rounding(machine: Machine, bits: int) -> Rounding | None:
    """How 7/8, 3/8, -3/8 and -7/8 of the last bit that survives beside big are rounded; None if by no known rule."""
    room = exponents_of(machine)
    last = room.top - bits
    parts = ((1.75, last - 1), (1.5, last - 2), (-1.5, last - 2), (-1.75, last - 1))
    cases = [
        [
            Term(place=0, exponent=room.top),
            Term(place=1, exponent=exponent, left=significand),
            Term(place=2, exponent=room.top, left=-1.0),
        ]
        for significand, exponent in parts
    ]
    seen = tuple((run(machine, cases, _SHORT) / 2.0**last).tolist())
    return {
        (0, 0, 0, 0): Rounding.TOWARD_ZERO,
        (0, 0, -1, -1): Rounding.TOWARD_NEGATIVE,
        (1, 1, 0, 0): Rounding.TOWARD_POSITIVE,
        (1, 0, 0, -1): Rounding.NEAREST_EVEN,
    }.get(seen)


def zeros_align(machine: Machine) -> bool:
    """Whether a product of 0 counts with the exponents of its factors, and so cuts off the least product there is."""
    small = Term(place=1, exponent=exponents_of(machine).least)
    most = machine.a_fmt.emax + machine.b_fmt.emax
    cases = [[Term(place=0, exponent=most, left=left, right=1.0 - left), small] for left in (0.0, 1.0)]
    return bool((run(machine, cases, _SHORT) == 0).any())


def groups(machine: Machine, bits: int, length: int) -> Tensor:
    """Find which places are aligned together, in cells of two places.

    In one cell are two small products that survive beside big only as their sum; in another, big and -big. The smalls
    are lost where both cells belong to one group, whatever the order of the groups.

    Args:
        machine: what is probed.
        bits: fraction bits.
        length: K, even.

    Returns:
        bool [length / 2, length / 2], whether two cells share a group.
    """
    room = exponents_of(machine)
    small = room.top - bits - 1
    cells = length // _CELL
    cases = []
    for one in range(cells):
        for other in range(cells):
            if one == other:
                continue
            cases.append(
                [
                    *(Term(place=_CELL * one + i, exponent=small) for i in range(_CELL)),
                    Term(place=_CELL * other, exponent=room.top),
                    Term(place=_CELL * other + 1, exponent=room.top, left=-1.0),
                ]
            )
    lost = run(machine, cases, length) == 0
    share = torch.eye(cells, dtype=torch.bool)
    share[~share] = lost
    return share


def group_order(share: Tensor) -> tuple[int, tuple[int, ...]] | None:
    """Find the length of the groups and the places of one period, group by group, in the order of their first places.

    Returns:
        The length, and the places of the shortest stretch that is whole groups and repeats itself; None if the groups
        differ in length or nothing repeats.
    """
    cells = share.shape[0]
    size = int(share[0].sum())
    for period in range(size, cells // 2 + 1, size):
        order = _period_order(share[:period, :period], size)
        if order is not None and cells % period == 0:
            times = cells // period
            repeated = torch.block_diag(*[share[:period, :period].float()] * times) > 0
            if torch.equal(repeated, share):
                return _CELL * size, tuple(_CELL * cell + i for cell in order for i in range(_CELL))
    return None


def _period_order(share: Tensor, size: int) -> list[int] | None:
    """Cells of a stretch, group by group; None if those are not whole groups of one size."""
    order: list[int] = []
    for cell in range(share.shape[0]):
        if cell not in order:
            members: list[int] = share[cell].nonzero().flatten().tolist()
            if len(members) != size or set(members) & set(order):
                return None
            order += members
    return order


def _small_terms(room: Exponents, bits: int, visible_bits: int, start: int) -> list[Term]:
    """Smalls, each lost beside big, whose sum is a bit that the result can show beside it."""
    count = 1 << max(1, bits + 1 - visible_bits)
    return [Term(place=start + i, exponent=room.top - bits - 1) for i in range(count)]


def _survives(machine: Machine, cases: Sequence[Sequence[Term]], length: int) -> Tensor:
    return run(machine, cases, length) != 2.0 ** exponents_of(machine).top


def stretch(machine: Machine, bits: int, visible_bits: int, group: int, length: int) -> int | None:
    """Find after how many products a new sum is begun: big in the first group, smalls in a later one.

    Args:
        machine: what is probed.
        bits: fraction bits.
        visible_bits: fraction bits of a result.
        group: how many products are aligned together.
        length: K.

    Returns:
        The number of products before the first group whose smalls survive; None if they are lost in all of them.

    Raises:
        ValueError: if a group is too short for the smalls that it takes.
    """
    room = exponents_of(machine)
    cases = []
    for start in range(group, length, group):
        smalls = _small_terms(room, bits, visible_bits, start)
        if len(smalls) > group:
            raise ValueError(f"{len(smalls)} small products do not fit in a group of {group}")
        cases.append([Term(place=0, exponent=room.top), *smalls])
    kept = _survives(machine, cases, length)
    return None if not kept.any() else group * (int(kept.nonzero()[0]) + 1)


def is_ascending(machine: Machine, bits: int, visible_bits: int, group: int) -> bool:
    """Whether the first group is added before the second: smalls in the first survive big in the second."""
    room = exponents_of(machine)
    case = [*_small_terms(room, bits, visible_bits, 0), Term(place=group, exponent=room.top)]
    return bool(_survives(machine, [case], 4 * group).item())


def result_bits(machine: Machine, bits: int, group: int) -> int | None:
    """Fraction bits of a sum: the last bit seen beside 1, 2, 4 and 8 bigs; None if it is never the sum that limits."""
    room = exponents_of(machine)
    for carries in range(4):
        bigs = [Term(place=i, exponent=room.top) for i in range(1 << carries)]
        if len(bigs) >= group:
            break
        cases = [[*bigs, Term(place=len(bigs), exponent=room.top - step)] for step in range(1, bits + 1)]
        kept = run(machine, cases, group) != 2.0 ** (room.top + carries)
        if not kept.all():
            return carries + int((~kept).nonzero()[0])
    return None


def result_rounding(machine: Machine, bits: int, visible_bits: int, group: int) -> Rounding | None:
    """How a sum is rounded: 1 and 1/2 steps beyond bigs, of either sign; None if no sum reaches there."""
    room = exponents_of(machine)
    carries = max(0, visible_bits + 1 - bits)
    count = 1 << carries
    if count >= group:
        return None
    step = room.top + carries - visible_bits
    cases = [
        [
            *(Term(place=i, exponent=room.top, left=sign) for i in range(count)),
            Term(place=count, exponent=step, left=1.5 * sign),
        ]
        for sign in (1.0, -1.0)
    ]
    seen = run(machine, cases, group) / 2.0**step
    beyond = tuple((seen - torch.tensor([1.0, -1.0]).double() * 2.0**visible_bits).tolist())
    return {
        (1, -1): Rounding.TOWARD_ZERO,
        (1, -2): Rounding.TOWARD_NEGATIVE,
        (2, -1): Rounding.TOWARD_POSITIVE,
        (2, -2): Rounding.NEAREST_EVEN,
    }.get(beyond)
