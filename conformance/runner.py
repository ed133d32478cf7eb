"""Long comparisons one after another, skipping those that already have a result for the present sources."""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from conformance.expect import CHUNK, Mismatch, compare, expected_codes, float32_of
from conformance.record import Json, available_cores, environment, load, source_hash, store
from incref.oracle.segments import Segment

__all__ = ["Case", "Outcome", "Run", "add_run_options", "compare_runs", "run_cases"]


class Case(Protocol):
    """One combination of options."""

    @property
    def key(self) -> str:
        """Its name among the results."""

    @property
    def op(self) -> str:
        """Name and version of the operation."""

    def check(self, *, console: Console | None) -> "Outcome":
        """Compare the operation with the oracle, showing progress on `console` if there is one."""

    def describe(self, mismatch: Mismatch) -> str:
        """Say what a mismatch means."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a comparison found."""

    patterns: int
    mismatches: int
    first: Mismatch | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """Consecutive float32 patterns and the segments of their expected codes."""

    start: int
    stop: int
    segments: Sequence[Segment]


def compare_runs(
    op: Callable[[Tensor], Tensor], runs: Iterable[Run], *, name: str, stride: int = 1, console: Console | None = None
) -> Outcome:
    """Compare the codes that `op` gives for runs of patterns with the expected ones.

    Args:
        op: float32 values to codes, [CHUNK] to [CHUNK].
        runs: what to check.
        name: shown beside the progress.
        stride: 1 to check every chunk of patterns, n to check every n-th.
        console: where progress is shown; None for nowhere.
    """
    begun = time.perf_counter()
    mismatches, checked = 0, 0
    found: Mismatch | None = None

    def check(run: Run, first: int) -> tuple[int, Mismatch | None]:
        got = op(float32_of(first, CHUNK))
        return compare(got, expected_codes(run.segments, first, CHUNK, got.dtype), first)

    with (
        Progress(console=console, disable=console is None, transient=True) as progress,
        # A chunk stays in the cache of one core: a thread a chunk, not many threads on one.
        ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for run in runs:
            firsts = range(run.start, run.stop, CHUNK * stride)
            results = pool.map(partial(check, run), firsts)
            for count, mismatch in progress.track(results, total=len(firsts), description=name):
                mismatches, checked, found = mismatches + count, checked + CHUNK, found or mismatch
    return Outcome(patterns=checked, mismatches=mismatches, first=found, seconds=time.perf_counter() - begun)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all programs have."""
    parser.add_argument("--again", action="store_true", help="run also what has a result for these sources")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run_cases(kind: str, cases: Iterable[Case], options: argparse.Namespace) -> int:
    """Run `cases`, store and print what they find; the result is the exit status, 1 if there is a mismatch."""
    console = Console(soft_wrap=True)
    sources = source_hash()
    is_wrong = False
    for case in cases:
        known = load(kind).get(case.key)
        if not options.again and isinstance(known, dict) and known["sources"] == sources and not known["mismatches"]:
            console.print(f"{case.key}: {known['patterns']:,} patterns, 0 mismatches, from an earlier run")
            continue
        outcome = case.check(console=None if options.quiet else console)
        first = None if outcome.first is None else case.describe(outcome.first)
        result: dict[str, Json] = {
            "op": case.op,
            "patterns": outcome.patterns,
            "mismatches": outcome.mismatches,
            "first_mismatch": first,
            "seconds": round(outcome.seconds, 1),
            "sources": sources,
            "environment": environment(),
        }
        store(kind, case.key, result)
        console.print(
            f"{case.key}: {outcome.patterns:,} patterns, {outcome.mismatches:,} mismatches, {outcome.seconds:.1f} s"
        )
        if first is not None:
            is_wrong = True
            console.print(f"  first: {first}")
    return int(is_wrong)
