"""Kernels that others wrote, from packages of the index, run on the CPU and compared with what PyTorch computes.

`pip install --no-deps --target build/public liger-kernel fla-core einops torchao gemlite`, then
`PYTHONPATH=build/public python -m benchmarks.triton_native.public`. With `TRITON_INTERPRET=1` set, Triton's interpreter
runs them.
"""

import argparse
import json
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.triton_native.public.asked import answered
from benchmarks.triton_native.public.case import Case, Function
from benchmarks.triton_native.public.fla import FLA
from benchmarks.triton_native.public.gemlite import GEMLITE
from benchmarks.triton_native.public.liger import LIGER
from benchmarks.triton_native.public.torchao import TORCHAO
from incref.checkpoints.files import write_atomically

CASES: dict[str, Case] = {**LIGER, **FLA, **TORCHAO, **GEMLITE}


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


def main() -> None:
    """Run all cases, print a table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", action="store_true", help="look for accesses out of bounds, races and new NaN")
    parser.add_argument("--case", action="append", choices=CASES, help="all of them if left out")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where results are kept, beside those of the other way"
    )
    arguments = parser.parse_args()
    way = "interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else "checked" if arguments.checks else "native"
    found: dict[str, Any] = {}
    with _way(way):
        for name in arguments.case or CASES:
            try:
                found[name] = measure(CASES[name])
            except Exception as error:  # noqa: BLE001  # whatever a kernel of others raises is its result
                found[name] = {"failure": f"{type(error).__name__}: {_reason(error)}"}
                traceback.print_exc()
            print(name, found[name], flush=True)
    if arguments.json is not None:
        kept = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        write_atomically(arguments.json, (json.dumps({**kept, way: found}, indent=2) + "\n").encode())


def _reason(error: Exception) -> str:
    """The last line, without what else would be possible."""
    return str(error).strip().splitlines()[-1].split(". ")[0]


@contextmanager
def _way(way: str) -> Iterator[None]:
    with _launches(way), answered():
        yield


def _launches(way: str) -> AbstractContextManager[None]:
    from incref_kernels.triton.native import triton_internals  # noqa: PLC0415  # an optional package
    from incref_kernels.triton.native.install import installed  # noqa: PLC0415  # likewise
    from incref_kernels.triton.native.native import native  # noqa: PLC0415  # likewise

    if way == "native":
        return installed()
    if way == "checked":
        return installed(partial(native, bounds=True, writers=True, shared=True, nans=True))
    # The interpreter has no driver, and would try all configurations.
    return triton_internals.launches_replaced(_none_compiled)


def _none_compiled(kernel: object, *_: object, **__: object) -> None:
    raise RuntimeError(f"{kernel} was to be interpreted")


if __name__ == "__main__":
    main()
