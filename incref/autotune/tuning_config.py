"""`TuningConfig`: what is searched, in which order, and for how long."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from incref.autotune.sampler import Sampler, SequentialSampler
from incref.config.base import BaseConfig
from incref.config.resolve import QuantConfig
from incref.config.scheme import LayerScheme
from incref.config.table import config_from_dict
from incref.config.tuning_sets import get_all_config_set

__all__ = ["TuningConfig"]


@dataclass(frozen=True)
class TuningConfig:
    """A search for a configuration.

    Attributes:
        config_set: a configuration or a list of them, each of which may be a search space; None for
            `get_all_config_set`.
        sampler: a kind of `Sampler`, or one that was made.
        tolerable_loss: what a model may lose and be good enough; see `Objective`.
        max_trials: how many configurations are tried at most.
        is_relative: whether `tolerable_loss` is a fraction of what the float model has.
        stops_when_met: whether the first model that is good enough ends the search. If not, the smallest one of all
            that are is the best.
        time_budget: seconds after which no further trial begins; one always does. None for no limit.
        journal: a directory where every trial is kept as soon as it is over, so that a search that was stopped goes on
            where it was; None to keep nothing. It belongs to one evaluation and its data.

    Raises:
        TypeError: for a value of another type.
        ValueError: for an empty `config_set`, or a number out of range.
    """

    config_set: QuantConfig | Sequence[QuantConfig] | None = None
    sampler: Sampler | type[Sampler] = SequentialSampler
    tolerable_loss: float = 0.01
    max_trials: int = 100
    _: KW_ONLY
    is_relative: bool = True
    stops_when_met: bool = True
    time_budget: float | None = None
    journal: str | Path | None = None

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if not _is_sampler(self.sampler):
            raise TypeError(f"sampler must be a Sampler, such as SequentialSampler, got {self.sampler!r}")
        if not math.isfinite(self.tolerable_loss):
            raise ValueError(f"tolerable_loss must be finite, got {self.tolerable_loss}")
        if self.max_trials < 1:
            raise ValueError(f"max_trials must be at least 1, got {self.max_trials}")
        if self.time_budget is not None and not self.time_budget >= 0:
            raise ValueError(f"time_budget must be seconds, at least 0, or None, got {self.time_budget}")
        if not self.configs():
            raise ValueError("config_set must have a configuration, got an empty list")

    def configs(self) -> tuple[QuantConfig, ...]:
        """List the configurations of `config_set`, with every search space expanded."""
        given = get_all_config_set() if self.config_set is None else self.config_set
        entries = given if isinstance(given, list | tuple) else [given]
        return tuple(config for entry in entries for config in _expand(entry))

    def make_sampler(self) -> Sampler:
        """Make the sampler, if it is not made yet."""
        return self.sampler() if isinstance(self.sampler, type) else self.sampler


def _is_sampler(given: object) -> bool:
    return isinstance(given, Sampler) or (isinstance(given, type) and issubclass(given, Sampler))


def _expand(entry: object) -> Sequence[QuantConfig]:
    if isinstance(entry, LayerScheme):
        return [entry]
    config = config_from_dict(entry) if isinstance(entry, dict) else entry
    if not isinstance(config, BaseConfig):
        raise TypeError(f"config_set must be configurations such as RTNConfig, LayerSchemes or dicts, got {entry!r}")
    return config.expand()
