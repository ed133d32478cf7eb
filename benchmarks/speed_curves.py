"""How the cost grows with the size of a tensor, threads, the width of a layer, and rows of calibration data."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gptq_peers import CASES, quantize_here
from benchmarks.timing import Times, measure
from conformance.record import Json, available_cores
from incref.config.schemes import SCHEMES
from incref.ops import cast, fake_quantize_mx
from incref.workflow.quantize import quantize
from incref_kernels.cpu import BACKEND

__all__ = ["layer_curve", "rows_curve", "size_curve", "thread_curve"]

_LEAST_SECONDS = 2e-3
_LAYER_ROWS = 128


def _conversions(x: Tensor) -> dict[str, Callable[[], object]]:
    into = torch.empty_like(x)
    return {
        "copy_": partial(into.copy_, x),
        "float8_e4m3fn": partial(cast.on(BACKEND), x, "float8_e4m3fn", out=into),
        "mxfp4": partial(fake_quantize_mx.on(BACKEND), x, "mxfp4", out=into),
        "nvfp4": partial(fake_quantize_mx.on(BACKEND), x, "nvfp4", out=into),
    }


def _repeated(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of a call; short ones are called many times in a row."""
    counts = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        counts[name] = max(1, int(_LEAST_SECONDS / (time.perf_counter() - start)))

    def run(name: str) -> None:
        for _ in range(counts[name]):
            functions[name]()

    times = measure({name: partial(run, name) for name in functions}, rounds=rounds)
    return {name: found.median / counts[name] for name, found in times.items()}


def size_curve(powers: range, rounds: int) -> list[Json]:
    """Nanoseconds an element for float32 tensors of `2**power` elements."""
    points: list[Json] = []
    for power in powers:
        seconds = _repeated(_conversions(torch.randn(1 << power)), rounds)
        points.append({"elements": 1 << power, **{name: 1e9 * s / (1 << power) for name, s in seconds.items()}})
    return points


def thread_curve(mebibytes: int, rounds: int) -> list[Json]:
    """Milliseconds for a tensor on one thread, two and so on, up to the cores that there are."""
    x = torch.randn(mebibytes << 18)
    threads = torch.get_num_threads()
    points: list[Json] = []
    for count in range(1, available_cores() + 1):
        torch.set_num_threads(count)
        points.append({"threads": count, **{name: 1e3 * s for name, s in _repeated(_conversions(x), rounds).items()}})
    torch.set_num_threads(threads)
    return points


def layer_curve(widths: list[int], rounds: int) -> list[Json]:
    """A square layer that emulates MXFP8 for 128 rows, weights quantized once: its time over that of float32."""
    points: list[Json] = []
    for width in widths:
        layer = nn.Linear(width, width, bias=False)
        x = torch.randn(_LAYER_ROWS, width)
        functions: dict[str, Callable[[], object]] = {"float32": partial(F.linear, x, layer.weight.detach().clone())}
        functions["emulated"] = partial(quantize(nn.Sequential(layer), SCHEMES["mxfp8_e4m3_w8a8"], backend="cpu"), x)
        with torch.no_grad():
            times = measure(functions, rounds=rounds)
        points.append({"width": width, **_milliseconds(times)})
    return points


def rows_curve(sizes: list[tuple[int, int]], rounds: int) -> list[Json]:
    """GPTQ of a square layer, int4 in groups of 128, beside one product of as many rows with a matrix of that size."""
    points: list[Json] = []
    for width, rows in sizes:
        weight, x = torch.randn(width, width), torch.randn(rows, width)
        case = CASES["symmetric"]
        functions: dict[str, Callable[[], object]] = {
            "product": partial(torch.matmul, x, weight),
            "gptq": partial(_quantized, weight, x, case),
        }
        with torch.no_grad():
            times = measure(functions, rounds=rounds)
        points.append({"width": width, "rows": rows, **_milliseconds(times)})
    return points


def _quantized(weight: Tensor, x: Tensor, case: Mapping[str, bool]) -> Tensor:
    # It is quantized where it lies.
    return quantize_here(weight.clone(), [x], case)


def _milliseconds(times: Mapping[str, Times]) -> dict[str, Json]:
    return {name: 1e3 * found.median for name, found in times.items()}
