"""How far a kernel is from float64, and how long it takes."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.triton_native.public.case import Case, Function

__all__ = ["measure"]


def measure(case: Case) -> dict[str, Any]:
    """Run one case forward and, where it has a gradient, backward.

    Returns:
        The largest error of the results, against float64, as a fraction of the largest result, and that of PyTorch in
        the type of the tensors; likewise for gradients; seconds of a second run.
    """
    got, gradients = _run(case.launch, case.tensors, has_gradient=case.has_gradient)
    start = time.perf_counter()
    _run(case.launch, case.tensors, has_gradient=case.has_gradient)
    seconds = time.perf_counter() - start
    wanted, wanted_gradients = _run(
        case.reference, [tensor.double() for tensor in case.tensors], has_gradient=case.has_gradient
    )
    theirs, their_gradients = _run(case.reference, case.tensors, has_gradient=case.has_gradient)
    found = {"error": _error(got, wanted), "error_of_pytorch": _error(theirs, wanted)}
    if case.has_gradient:
        found |= {
            "gradient_error": _error(gradients, wanted_gradients),
            "gradient_error_of_pytorch": _error(their_gradients, wanted_gradients),
        }
    return {**found, "seconds": seconds}


def _run(function: Function, tensors: Sequence[Tensor], *, has_gradient: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Call `function`, and give its results and the gradients of a weighted sum of them."""
    given = [tensor.detach().clone().requires_grad_(has_gradient) for tensor in tensors]
    found = function(*given)
    results = list(found) if isinstance(found, tuple) else [found]
    kept = [result.detach().clone() for result in results]
    if has_gradient:
        torch.stack([_weighted(result) for result in results]).sum().backward()
    return kept, [tensor.grad for tensor in given if tensor.grad is not None]


def _weighted(result: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result) + 0.25
    return (result * weights).sum()


def _error(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    if [tensor.shape for tensor in got] != [tensor.shape for tensor in wanted]:
        return float("inf")
    return max(
        float((a.double() - b.double()).abs().max() / b.double().abs().max()) for a, b in zip(got, wanted, strict=True)
    )
