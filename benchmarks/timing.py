"""Times of several functions, side by side in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Times", "measure"]


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one function over the rounds of a measurement."""

    median: float
    least: float
    greatest: float


def measure(functions: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Times]:
    """Time every function once a round, in turn, so that a slow spell of the machine meets all of them.

    Args:
        functions: by name; each is called once before the rounds.
        rounds: how often each is timed.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: Times(median=statistics.median(times), least=min(times), greatest=max(times))
        for name, times in seconds.items()
    }
