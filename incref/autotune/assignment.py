"""Which option every layer gets, so that little is lost for what is saved."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from incref.config.base import BaseConfig

__all__ = ["Assignment", "Option", "assignments"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """What one layer can become.

    Attributes:
        config: gives the layer its scheme; None to leave it alone.
        bits: of the weight with all its scales.
        loss: finite, at least 0; those of different layers add up.
    """

    config: BaseConfig | None
    bits: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One option for every layer.

    Attributes:
        chosen: by the name of the layer.
        bits: of all of them.
        loss: of all of them, the exact sum.
    """

    chosen: Mapping[str, Option]
    bits: int
    loss: Fraction


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One layer takes a smaller option; `rate` is the loss for every bit that this saves."""

    layer: str
    to: Option
    rate: Fraction


def assignments(options: Mapping[str, Sequence[Option]]) -> Iterator[Assignment]:
    """Go from the assignment of least loss to the smallest one, one layer a step.

    The options of a layer that a mix of two others beats (those above the lower convex hull of bits and loss) are never
    chosen. Of all steps to the next smaller option of a layer, that of the least loss for every bit saved is taken
    first; of equal ones, that of the earlier layer. So every assignment has the least loss of all of its size or a
    smaller one. Sums and comparisons are exact.

    >>> a, b = [Option(config=None, bits=bits, loss=1 / bits) for bits in (8, 4)]
    >>> [(one.bits, float(one.loss)) for one in assignments({"fc1": [a, b], "fc2": [a, b]})]
    [(16, 0.25), (12, 0.375), (8, 0.5)]
    """
    hulls = {name: _hull(choices) for name, choices in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    # Rates grow along a hull, so sorting keeps the steps of a layer in their order.
    steps = sorted((step for name, hull in hulls.items() for step in _steps(name, hull)), key=lambda step: step.rate)
    bits = sum(option.bits for option in chosen.values())
    loss = sum((Fraction(option.loss) for option in chosen.values()), Fraction(0))
    yield Assignment(chosen=dict(chosen), bits=bits, loss=loss)
    for step in steps:
        before = chosen[step.layer]
        chosen[step.layer] = step.to
        bits += step.to.bits - before.bits
        loss += Fraction(step.to.loss) - Fraction(before.loss)
        yield Assignment(chosen=dict(chosen), bits=bits, loss=loss)


def _hull(options: Sequence[Option]) -> list[Option]:
    """The lower convex hull, from the option of least loss down to the smallest; of equal options the first."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda option: (option.loss, option.bits)):
        if hull and option.bits >= hull[-1].bits:
            continue
        while len(hull) >= 2 and _rate(hull[-2], hull[-1]) >= _rate(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _steps(layer: str, hull: Sequence[Option]) -> Iterator[_Step]:
    for before, after in itertools.pairwise(hull):
        yield _Step(layer=layer, to=after, rate=_rate(before, after))


def _rate(larger: Option, smaller: Option) -> Fraction:
    return (Fraction(smaller.loss) - Fraction(larger.loss)) / (larger.bits - smaller.bits)
