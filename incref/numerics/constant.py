"""Functions whose results are constants of a graph."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["constant_in_graphs"]

P = ParamSpec("P")
R = TypeVar("R")


def constant_in_graphs(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that `torch.compile` calls when it traces a call of it, instead of tracing it.

    This does what `torch.compiler.assume_constant_result` does, which imports the whole compiler: that takes longer
    than all else that is imported here.
    """
    fn._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001
    return fn
