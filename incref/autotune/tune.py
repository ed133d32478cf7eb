"""`tune`: search for a configuration, and give everything that was found."""

from collections.abc import Callable

from torch import nn

from incref.autotune.metric import EvalFn, as_metrics
from incref.autotune.objective import Objective
from incref.autotune.result import TuningResult
from incref.autotune.runner import Runner
from incref.autotune.trial_journal import TrialJournal
from incref.autotune.tuner import Tuner
from incref.autotune.tuning_config import TuningConfig
from incref.workflow.arguments import Arguments
from incref.workflow.prepare import ExampleInputs

__all__ = ["tune"]


def tune(  # noqa: PLR0917  # the order that callers know
    model: nn.Module,
    tune_config: TuningConfig,
    eval_fn: EvalFn,
    eval_args: Arguments = None,
    run_fn: Callable[..., object] | None = None,
    run_args: Arguments = None,
    example_inputs: ExampleInputs = None,  # noqa: ARG001  # no algorithm of this version traces a model
) -> TuningResult:
    """Quantize copies of `model` under one configuration after the other, and evaluate each.

    A trial has failed if anything in it raises an exception, or its evaluation gives no finite number; the search goes
    on. What gives the same model as an earlier trial is not tried.

    Args:
        model: a float model; it is not changed.
        tune_config: what is searched, and what a model may lose; it is not changed either.
        eval_fn: says how good a model is: a function for which more is better, a `Metric`, or a list of these.
        eval_args: further arguments of every function in `eval_fn`: a tuple or list of them, or a single one.
        run_fn: called with a copy of the model and `run_args`, to calibrate; once, whatever the number of trials.
        run_args: further arguments of `run_fn`, likewise.
        example_inputs: arguments of one call of the model, for algorithms that trace it.

    Returns:
        The best model, every trial, and whether the tolerance was met. Best is, of the models that are good enough, the
        smallest; if none is, the one of the highest score; among equals the first.

    Raises:
        TuningError: if no trial gave a model.
        Exception: whatever the evaluation of the float model raises.
    """
    metrics = as_metrics(eval_fn)
    runner = Runner(model, metrics, eval_args, run_fn, run_args)
    journal = None if tune_config.journal is None else TrialJournal(tune_config.journal, model, metrics)
    tuner = Tuner(model, tune_config, runner, journal)
    baseline = tuner.baseline()
    objective = Objective(
        metrics=metrics,
        baseline=baseline.values,
        tolerable_loss=tune_config.tolerable_loss,
        is_relative=tune_config.is_relative,
    )
    tuner.run(objective)
    assert tuner.best is not None
    return TuningResult(
        model=tuner.best_model(),
        best=tuner.best,
        trials=tuple(tuner.trials),
        baseline=baseline,
        objective=objective,
    )
