"""Checks that depend on the values of a tensor or on the state of the processor."""

import math

import torch
from torch import Tensor

from incref.errors import FlushDenormalError, NanError

__all__ = ["is_eager", "is_finite", "require_not_nan", "require_subnormals"]

_SUBNORMAL_PATTERN = 1 << 22


def is_eager() -> bool:
    """Whether a tensor made now has values that may be kept: no graph is being built, and no mode fakes tensors."""
    if torch.compiler.is_compiling():
        return False
    # To make a tensor takes six times as long as to see that there is no mode, which nothing public says.
    modes = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()  # noqa: SLF001
    return modes == 0 or type(torch.empty(0)) is Tensor


def is_finite(x: Tensor) -> bool:
    """Whether all elements are finite, found in one pass over memory.

    >>> is_finite(torch.tensor([1.0, torch.nan]))
    False
    """
    # The least and the greatest are NaN where any element is.
    return x.numel() == 0 or all(math.isfinite(float(one)) for one in x.aminmax())


def require_not_nan(is_bad: Tensor, message: str) -> None:
    """Raise `NanError(message)` if any element of `is_bad` is true.

    In a graph that `torch.compile` builds it becomes an assertion that raises `RuntimeError` when the graph runs.
    """
    if torch.compiler.is_compiling():
        # No public function puts an assertion on values into a graph.
        torch._assert_async(~is_bad.any(), message)  # noqa: SLF001
    elif is_eager() and bool(is_bad.any()):
        raise NanError(f"{message}; {int(is_bad.sum())} of {is_bad.numel()} elements are")


def require_subnormals(op: str) -> None:
    """Raise `FlushDenormalError` if this thread flushes subnormal floats to zero.

    Not checked in a graph that `torch.compile` builds: the mode may differ when the graph runs.
    """
    if not is_eager():
        return
    smallest = torch.tensor(_SUBNORMAL_PATTERN, dtype=torch.int32).view(torch.float32)
    if (smallest * 1.0).view(torch.int32).item() != _SUBNORMAL_PATTERN:
        raise FlushDenormalError(
            f"{op} computes with floats and needs subnormals, but this thread flushes them to zero; "
            "call torch.set_flush_denormal(False)"
        )
