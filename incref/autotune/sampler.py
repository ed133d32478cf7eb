"""Which configurations are tried, and in which order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from incref.autotune.trial import Trial
from incref.config.resolve import QuantConfig

__all__ = ["Sampler", "Search", "SequentialSampler"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a sampler can know and do.

    Attributes:
        model: the float model; not to be changed.
        configs: the configurations that are searched, in their order.
        trials: what was tried so far, the last one being what was proposed last; grows. A configuration that gives the
            same model as an earlier one is not tried.
        quantize: makes a quantized copy of the model.
        feed: calls a model of this structure with calibration data, or with that of the evaluation if there is none.
    """

    model: nn.Module
    configs: tuple[QuantConfig, ...]
    trials: Sequence[Trial]
    quantize: Callable[[QuantConfig], nn.Module]
    feed: Callable[[nn.Module], object]


class Sampler(ABC):
    """Proposes configurations until there is none left, or the search is over."""

    @abstractmethod
    def propose(self, search: Search) -> Iterator[QuantConfig]:
        """Yield configurations; each is tried before the next one is asked for."""


class SequentialSampler(Sampler):
    """All configurations in their order."""

    def propose(self, search: Search) -> Iterator[QuantConfig]:
        """Yield configurations."""
        yield from search.configs
