"""`record_calls`: what a model is called with, once for any number of conversions."""

import copy
from collections.abc import Callable

from torch import nn

from incref.calibration.blocks import find_blocks
from incref.calibration.recorder import CallRecorder
from incref.workflow.arguments import Arguments, as_arguments

__all__ = ["record_calls"]


def record_calls(
    model: nn.Module, run_fn: Callable[..., object], run_args: Arguments = None, *, record_only: bool = False
) -> CallRecorder:
    """Record the calls that `run_fn` makes of a copy of `model`, and of its blocks.

    Args:
        model: a float model; it is not changed.
        run_fn: called once with the copy and `run_args`.
        run_args: further arguments of `run_fn`: a tuple or list of them, or a single one.
        record_only: whether calls of the copy give None, and compute no more than it takes to know what its blocks get.

    Returns:
        The calls, for `convert(model, ..., calls=...)`.
    """
    model = copy.deepcopy(model)
    recorder = CallRecorder(model, find_blocks(model), computes=not record_only)
    recorder.attach(model)
    try:
        run_fn(model, *as_arguments(run_args))
    finally:
        recorder.detach()
    return recorder
