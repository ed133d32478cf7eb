"""`SensitivitySampler`: every layer gets the precision that it needs."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from incref.autotune.assignment import Assignment, Option, assignments
from incref.autotune.layer_options import LayerOptions, measure_options
from incref.autotune.sampler import Sampler, Search
from incref.config.base import BaseConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig

__all__ = ["SensitivitySampler"]


class SensitivitySampler(Sampler):
    """Mixes the configurations layer by layer.

    First what every layer loses under every configuration is measured alone (`measure_options`). Assignments of
    configurations to layers then go from that of least loss to the smallest one, each step by the layer that loses
    least for what it saves (`assignments`). Proposed is, as one configuration with a rule for every layer:

    * with `size_budget`: the assignment of least loss that is no larger;
    * with `loss_budget`: the smallest assignment that loses no more;
    * with neither: `points` assignments, evenly spaced among the steps, from the smallest to that of least loss. So the
      first one that is good enough is the smallest one that is.

    A configuration with `dtype="fp32"` among those to mix allows to leave layers alone. Nothing here is random.
    """

    def __init__(self, *, size_budget: float | None = None, loss_budget: float | None = None, points: int = 10) -> None:
        """Make the sampler.

        Args:
            size_budget: bits of a weight, scales included, on average over the layers that are quantized.
            loss_budget: sum of what all layers may lose.
            points: how many assignments are proposed at most without a budget.

        Raises:
            ValueError: if there are two budgets, one is negative, or `points` is not positive.
        """
        if size_budget is not None and loss_budget is not None:
            raise ValueError("size_budget and loss_budget are two goals; set one of them")
        for name, value in (("size_budget", size_budget), ("loss_budget", loss_budget)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        if points < 1:
            raise ValueError(f"points must be at least 1, got {points}")
        self._size_budget = size_budget
        self._loss_budget = loss_budget
        self._points = points

    def propose(self, search: Search) -> Iterator[QuantConfig]:
        """Measure all layers, and yield configurations.

        Raises:
            ValueError: if no assignment keeps to the budget; the message says what the least is.
        """
        options = measure_options(search)
        if not options:
            raise ValueError("no configuration quantizes a layer of the model, so there is nothing to mix")
        path = list(assignments(options))
        for assignment in self._select(path, search, options):
            yield _as_config(assignment.chosen)

    def _select(self, path: Sequence[Assignment], search: Search, options: LayerOptions) -> list[Assignment]:
        if self._size_budget is not None:
            elements = sum(search.model.get_parameter(f"{name}.weight").numel() for name in options)
            small = [one for one in path if one.bits <= Fraction(self._size_budget) * elements]
            if not small:
                least = path[-1].bits / elements
                raise ValueError(f"size_budget must be at least {least:.4g} bits a weight, got {self._size_budget}")
            return small[:1]
        if self._loss_budget is not None:
            good = [one for one in path if one.loss <= self._loss_budget]
            if not good:
                raise ValueError(f"loss_budget must be at least {float(path[0].loss):.4g}, got {self._loss_budget}")
            return good[-1:]
        count, last = min(self._points, len(path)), len(path) - 1
        return [path[last - index * last // max(count - 1, 1)] for index in range(count)]


def _as_config(chosen: Mapping[str, Option]) -> BaseConfig:
    """One configuration with a rule for every layer that is not left alone."""
    mixed = RTNConfig(white_list=None)
    for name, option in chosen.items():
        if option.config is not None:
            mixed.set_local(re.escape(name), option.config)
    return mixed
