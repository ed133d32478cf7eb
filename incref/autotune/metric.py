"""What a model is judged by."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import SupportsFloat

from torch import nn

from incref.workflow.arguments import Arguments, as_arguments

__all__ = ["EvalFn", "Metric", "as_metrics", "evaluate"]


@dataclass(frozen=True)
class Metric:
    """A function that says how good a model is.

    Attributes:
        eval_fn: called with a model and `eval_args`; returns a finite number.
        weight: what the metric counts among several.
        name: for tables; left out, that of the function.
        higher_is_better: whether more is better, as with accuracy; False for perplexity.

    Raises:
        TypeError: if `eval_fn` can't be called.
        ValueError: if `weight` is not positive and finite.
    """

    eval_fn: Callable[..., object]
    _: KW_ONLY
    weight: float = 1.0
    name: str = ""
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        """Check the function and the weight, and give the metric a name."""
        if not callable(self.eval_fn):
            raise TypeError(f"eval_fn must be a function of a model, got {self.eval_fn!r}")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {self.weight}")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.eval_fn, "__name__", type(self.eval_fn).__name__))

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is."""
        return 1 if self.higher_is_better else -1


EvalFn = Callable[..., object] | Metric | Mapping[str, object] | Sequence[object]
"""A function for which more is better, a `Metric`, its fields as a dict, or a list of these."""


def as_metrics(eval_fn: EvalFn) -> tuple[Metric, ...]:
    """Make metrics of what a caller gives.

    >>> [metric.name for metric in as_metrics([len, Metric(abs, name="size"), {"eval_fn": max, "weight": 0.5}])]
    ['len', 'size', 'max']

    Raises:
        TypeError: for something else, or a dict with another key.
        ValueError: for an empty list.
    """
    if isinstance(eval_fn, list | tuple):
        if not eval_fn:
            raise ValueError("eval_fn must have a metric, got an empty list")
        return tuple(metric for one in eval_fn for metric in as_metrics(one))
    if isinstance(eval_fn, Metric):
        return (eval_fn,)
    if isinstance(eval_fn, Mapping):
        return (Metric(**eval_fn),)  # type: ignore[arg-type]  # checked at run time
    if callable(eval_fn):
        return (Metric(eval_fn),)
    raise TypeError(f"eval_fn must be a function, a Metric, a dict or a list of these, got {eval_fn!r}")


def evaluate(metric: Metric, model: nn.Module, eval_args: Arguments = None) -> float:
    """Call the function of `metric`.

    Raises:
        TypeError: if what it returns is no number.
        ValueError: if that is not finite.
    """
    value = metric.eval_fn(model, *as_arguments(eval_args))
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"{metric.name} must return a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{metric.name} must return a finite number, got {number}")
    return number
