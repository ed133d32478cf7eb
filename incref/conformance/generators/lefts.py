"""What weights are multiplied with so that every order of the sum gives one answer.

A probe needs so many bits that no sum of some of its terms has more than the declared accumulator keeps (B0 in
`conformance/contracts/accumulation.md`); that is checked where it is drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.conformance.plan import Plan
from incref.numerics.accumulate.float_parts import last_bit_of

__all__ = ["PROBES", "edges_of", "needed_bits", "values_of_probe"]


def needed_bits(x: Tensor, w: Tensor) -> int:
    """How many bits below its first an accumulator has to keep for every order of the sums to be exact.

    Args:
        x: finite float64 [M, K].
        w: finite float64 [N, K].
    """
    most = 0
    for row in x:
        product = row * w
        last = torch.where(product == 0, torch.inf, last_bit_of(product)).amin(-1)
        largest = torch.maximum(product.clamp(min=0).sum(-1), -product.clamp(max=0).sum(-1))
        ratio = torch.where(largest == 0, 1.0, largest / last)
        most = max(most, int(torch.frexp(ratio).exponent.max()) - 1)
    return most


def edges_of(length: int, step: int) -> list[int]:
    """Places on both sides of every beginning of a group or a tile, and the ends."""
    steps = {edge + by for edge in range(0, length + 1, step) for by in (-1, 0, 1)}
    return sorted({0, length - 1, *(place for place in steps if 0 <= place < length)})


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a weight is multiplied with.

    Attributes:
        name: of the probe.
        values: float32 [M, K], of few bits.
        has_nan: whether one of them is NaN.
    """

    name: str
    values: Tensor
    has_nan: bool = False


def lefts(weight: Tensor, step: int, plan: Plan, generator: torch.Generator) -> Iterator[Left]:
    """List the left factors of a weight.

    Args:
        weight: float64 [N, K], finite.
        step: of groups along K.
        plan: says how many bits the accumulator keeps.
        generator: random numbers.
    """
    length = weight.shape[1]
    for factor in (1.0, -1.0, 0.5):
        yield Left(name=f"identity{factor:g}", values=factor * torch.eye(length))
    edges = edges_of(length, step)
    pairs = torch.zeros(2 * len(edges), length)
    for row, edge in enumerate(edges):
        pairs[2 * row, edge], pairs[2 * row, (edge + 1) % length] = 1.0, 1.0
        pairs[2 * row + 1, edge], pairs[2 * row + 1, length - 1 - edge] = 1.0, -1.0
    yield Left(name="pairs", values=pairs)
    for count in (length, max(length // 4, 1)):
        signs = torch.randint(0, 2, (5, length), generator=generator) * 2.0 - 1
        order = torch.rand(5, length, generator=generator)
        order[:, edges] -= 0.25
        values = torch.where(order.argsort(-1).argsort(-1) < count, signs, 0.0)
        yield Left(name=f"signs{count}", values=_thinned(values, weight, plan.bits))
    yield Left(name="nan", values=_with_nan(length, generator), has_nan=True)


def _thinned(values: Tensor, weight: Tensor, bits: int) -> Tensor:
    """Take every second of the other terms out until the accumulator holds all sums."""
    kept = values.clone()
    while needed_bits(kept.double(), weight) > bits:
        for row in kept:
            places = row.nonzero().flatten()
            row[places[1:-1:2] if len(places) > 2 else places[:1]] = 0.0
    return kept


def _with_nan(length: int, generator: torch.Generator) -> Tensor:
    values = torch.zeros(3, length)
    values[:, 0] = 1.0
    values[1, int(torch.randint(0, length, (), generator=generator))] = torch.nan
    return values


def ladder(length: int, bits: int, step: int) -> Tensor:
    """`2**bits, 1, -2**bits` at three places near edges; the factor of the weight is 1 everywhere."""
    edges = edges_of(length, step)
    places = sorted({edges[0], *edges[1:4], edges[len(edges) // 2], *edges[-3:]})
    triples = [
        (places[i], places[j], places[k])
        for i in range(len(places))
        for j in range(i + 1, len(places))
        for k in range(j + 1, len(places))
    ]
    rows = torch.zeros(2 * len(triples), length)
    for row, (first, middle, last) in enumerate(triples):
        for at, (one, other) in enumerate(((first, last), (last, first))):
            rows[2 * row + at, one], rows[2 * row + at, other] = 2.0**bits, -(2.0**bits)
            rows[2 * row + at, middle] = 1.0
    return rows


PROBES = ("ladder", "identity1", "identity-1", "pairs", "signs_all", "signs_few", "nan")
"""The first needs three places."""


def values_of_probe(plan: Plan, probe: str, weight: Tensor, step: int, generator: torch.Generator) -> Tensor:
    """The values of a probe, float32 [M, K]."""
    length = weight.shape[1]
    if probe == "random":
        return torch.randn(12, length, generator=generator)
    if probe == "ladder":
        return ladder(length, plan.bits, step)
    named = {"signs_all": f"signs{length}", "signs_few": f"signs{max(length // 4, 1)}"}
    for left in lefts(weight, step, plan, generator):
        if left.name == named.get(probe, probe):
            return left.values
    raise ValueError(f"no probe is called {probe!r}")
