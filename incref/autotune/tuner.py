"""The search itself: one trial after the other, until one is good enough or nothing is left."""

import logging
import time
from collections.abc import Iterator

from torch import nn

from incref.autotune.objective import Objective
from incref.autotune.runner import Runner
from incref.autotune.sampler import Search
from incref.autotune.trial import Measurement, Trial, rank
from incref.autotune.trial_journal import Schemes, TrialJournal
from incref.autotune.tuning_config import TuningConfig
from incref.config.resolve import QuantConfig, plan
from incref.errors import IncrefError, TuningError

__all__ = ["Tuner"]

_log = logging.getLogger(__name__)


class Tuner:
    """Tries configurations, and keeps every result but only the best model.

    Attributes:
        trials: what was tried so far.
        best: the best trial; None if none gave a model.
    """

    def __init__(self, model: nn.Module, config: TuningConfig, runner: Runner, journal: TrialJournal | None) -> None:
        """Prepare for a search; its time starts to count."""
        self.trials: list[Trial] = []
        self.best: Trial | None = None
        self._start = time.monotonic()
        self._model = model
        self._config = config
        self._runner = runner
        self._journal = journal
        self._best_model: nn.Module | None = None
        self._seen: list[Schemes] = []

    def baseline(self) -> Measurement:
        """Measure the float model, or recall that; what its evaluation raises is raised."""
        measured = None if self._journal is None else self._journal.find({})
        if measured is None:
            measured = self._runner.measure_float()
            self._keep({}, measured)
        return measured

    def run(self, objective: Objective) -> None:
        """Try what the sampler proposes.

        Raises:
            TuningError: if no trial gave a model.
        """
        for config in self._proposals():
            if self._is_over():
                break
            trial = self._try(config, objective)
            if trial is not None:
                _log.info("trial %d: %s", trial.number, trial.failure or trial.values)
        if self.best is None:
            reasons = "; ".join(f"{trial.number}: {trial.failure}" for trial in self.trials)
            raise TuningError(f"no trial gave a model ({reasons or 'the sampler proposed none'})")

    def best_model(self) -> nn.Module:
        """Give the model of the best trial; it is quantized again if the trial is one of an earlier run."""
        assert self.best is not None
        return self._best_model if self._best_model is not None else self._runner.quantize(self.best.config)

    def _proposals(self) -> Iterator[QuantConfig]:
        search = Search(
            model=self._model,
            configs=self._config.configs(),
            trials=self.trials,
            quantize=self._runner.quantize,
            feed=self._runner.feed,
        )
        return self._config.make_sampler().propose(search)

    def _is_over(self) -> bool:
        is_met = self.best is not None and self.best.is_met
        budget = self._config.time_budget
        is_late = budget is not None and time.monotonic() - self._start >= budget
        return (
            (is_met and self._config.stops_when_met)
            or len(self.trials) >= self._config.max_trials
            or (is_late and bool(self.trials))
        )

    def _try(self, config: QuantConfig, objective: Objective) -> Trial | None:
        """Try `config`, unless a trial before gave the same model."""
        try:
            schemes = plan(self._model, config).changes
        except (ValueError, IncrefError) as error:
            return self._add(config, objective, Measurement(failure=f"{type(error).__name__}: {error}"), None)
        if schemes in self._seen:
            return None
        self._seen.append(schemes)
        known = None if self._journal is None else self._journal.find(schemes)
        if known is not None:
            return self._add(config, objective, known, None, is_recalled=True)
        measured, quantized = self._runner.measure(config)
        self._keep(schemes, measured)
        return self._add(config, objective, measured, quantized)

    def _add(
        self,
        config: QuantConfig,
        objective: Objective,
        measured: Measurement,
        quantized: nn.Module | None,
        *,
        is_recalled: bool = False,
    ) -> Trial:
        score = None if measured.failure else objective.score(measured.values)
        trial = Trial(
            number=len(self.trials) + 1,
            config=config,
            measured=measured,
            score=score,
            is_met=score is not None and score >= objective.target,
            is_recalled=is_recalled,
        )
        self.trials.append(trial)
        # Of equals the first stays.
        if not trial.failure and (self.best is None or rank(trial) > rank(self.best)):
            self.best, self._best_model = trial, quantized
        return trial

    def _keep(self, schemes: Schemes, measured: Measurement) -> None:
        if self._journal is not None:
            self._journal.keep(schemes, measured)
