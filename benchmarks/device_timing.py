"""How long work takes a device, and how long it takes the host to ask for it."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

__all__ = ["seconds_on_device", "seconds_on_host", "timed_peer"]

_CALLS = 32


def seconds_on_device(calls: Sequence[Callable[[], object]], device: torch.device, rounds: int) -> float:
    """Median time of a call on the device.

    On CUDA all calls are in a graph, so that starting them costs the host nothing; elsewhere that is part of the time.

    Args:
        calls: that take turns, so that none finds in the cache what the one before left there.
        device: that they run on.
        rounds: how often all are timed.
    """
    if device.type == "cpu":
        begun = time.perf_counter()
        calls[0]()
        return time.perf_counter() - begun
    module = torch.get_device_module(device)
    for call in calls:
        call()
    module.synchronize()
    run = _graph(calls) if device.type == "cuda" else lambda: [call() for call in calls]
    found = []
    for _ in range(rounds):
        start, stop = module.Event(enable_timing=True), module.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        module.synchronize()
        found.append(start.elapsed_time(stop) / 1e3 / len(calls))
    return statistics.median(found)


def timed_peer(library: str, run: Callable[[], object], device: torch.device, rounds: int) -> dict[str, float | str]:
    """Give the microseconds of another library's call, or why there are none: what it can't do is a result too."""
    try:
        return {f"{library}_microseconds": round(seconds_on_device([run], device, rounds) * 1e6, 1)}
    except Exception as error:  # noqa: BLE001
        return {f"{library}_error": f"{type(error).__name__}: {error}"[:300]}


def _graph(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph.replay


def seconds_on_host(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time until a call comes back, its work left to the device; that must be little."""
    module = torch.get_device_module(device)
    call()
    found = []
    for _ in range(rounds):
        module.synchronize()
        begun = time.perf_counter()
        for _ in range(_CALLS):
            call()
        found.append((time.perf_counter() - begun) / _CALLS)
    return statistics.median(found)
