"""`autotune`: search for a configuration, and give the best model."""

import logging
from collections.abc import Callable

from torch import nn

from incref.autotune.metric import EvalFn
from incref.autotune.tune import tune
from incref.autotune.tuning_config import TuningConfig
from incref.workflow.arguments import Arguments
from incref.workflow.prepare import ExampleInputs

__all__ = ["autotune"]

_log = logging.getLogger(__name__)


def autotune(  # noqa: PLR0917  # the order that callers know
    model: nn.Module,
    tune_config: TuningConfig,
    eval_fn: EvalFn,
    eval_args: Arguments = None,
    run_fn: Callable[..., object] | None = None,
    run_args: Arguments = None,
    example_inputs: ExampleInputs = None,
) -> nn.Module:
    """Quantize copies of `model` until one is good enough, and return the best.

    Whether the tolerance was met is logged, as a warning if it was not. `tune` takes the same arguments, and returns
    that and every trial along with the model.

    Args:
        model: a float model; it is not changed.
        tune_config: what is searched, and what a model may lose.
        eval_fn: says how good a model is: a function for which more is better, a `Metric`, or a list of these.
        eval_args: further arguments of every function in `eval_fn`: a tuple or list of them, or a single one.
        run_fn: called once with a copy of the model and `run_args`, to calibrate.
        run_args: further arguments of `run_fn`, likewise.
        example_inputs: arguments of one call of the model, for algorithms that trace it.

    Returns:
        The best quantized model.

    Raises:
        TuningError: if no trial gave a model.

    >>> import torch
    >>> from incref.config.rtn import RTNConfig
    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Linear(64, 64)), torch.randn(16, 64)
    >>> y = model(x)
    >>> accuracy = lambda quantized: 1 - (quantized(x) - y).abs().max().item()
    >>> autotune(model, TuningConfig(RTNConfig(bits=[4, 6, 8]), tolerable_loss=0.05), accuracy)
    Sequential(
      (0): QuantLinear(in_features=64, out_features=64, bias=True, weight=int6 (7 bits))
    )
    """
    result = tune(model, tune_config, eval_fn, eval_args, run_fn, run_args, example_inputs)
    _log.log(logging.INFO if result.is_met else logging.WARNING, "%s", result.verdict())
    return result.model
