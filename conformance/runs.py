"""Runs of the suite that are kept: an implementation, a judge and a level, operation by operation.

What has a result for the sources as they are is not run again, so an interrupted run goes on where it was.

python -m conformance.runs reference --judge oracle --level 2
python -m conformance.runs triton --level 1 --op encode --op decode
python -m conformance.runs triton --level 1 --device cuda --workers 8
python -m conformance.runs triton --level 1 --workers 2 --cold
python -m conformance.runs triton --level 1 --workers 2 --check
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch

from conformance.record import Json, environment, load, store
from incref.conformance.answers import Answers, Judge
from incref.conformance.discovery import find_implementations
from incref.conformance.implementation import Implementation
from incref.conformance.result import Outcome, Result
from incref.conformance.run import plan_cases, run
from incref.conformance.suite import SUITE, suite_digest

__all__ = ["main"]

_KIND = "runs"
_MOST_FAILURES = 20
_PARTS = 8
"""Of an operation, where processes share its cases."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and keep what was found; 1 if something is wrong."""
    options = _options(arguments)
    (implementation,) = find_implementations(options.implementation)
    if unknown := {*(options.op or ())} - {*implementation.candidates}:
        known_ops = ", ".join(implementation.candidates) or "none"
        raise SystemExit(f"{implementation.name} has no {', '.join(sorted(unknown))}; its operations: {known_ops}")
    if not implementation.candidates:
        raise SystemExit(f"{implementation.name} has no operations, so nothing is judged")
    is_good, kept = True, {} if options.check else load(_KIND)
    options.name = implementation.name
    wanted = []
    for op in implementation.candidates:
        known = kept.get(_key(options, op))
        if options.op and op not in options.op:
            continue
        if not options.again and isinstance(known, dict) and _is_current(known):
            sys.stdout.write(f"{op}: {known['verdict']}, from an earlier run\n")
            continue
        wanted.append(op)
    for op, found in (_cold_results if options.cold else _results)(options, wanted):
        if not options.check:
            store(_KIND, _key(options, op), found)
        sys.stdout.write(f"{op}: {found['verdict']}, {found['seconds']} s\n{_failures(found)}")
        sys.stdout.flush()
        is_good &= found["is_good"] is True
    return 0 if is_good else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("implementation", help="reference, or the name of a backend")
    parser.add_argument("--judge", type=Judge, default=Judge.REFERENCE, choices=list(Judge))
    parser.add_argument("--level", type=int, default=2, choices=(0, 1, 2))
    parser.add_argument("--op", action="append", help="only this operation; may be repeated")
    parser.add_argument("--device", default="cpu", help="where the arguments lie")
    parser.add_argument("--workers", type=int, default=0, help="processes that share the cases; 0 for none")
    parser.add_argument("--seconds", type=float, default=None, help="no case is begun later than that in an operation")
    parser.add_argument("--again", action="store_true", help="run also what has a result for these sources")
    parser.add_argument("--check", action="store_true", help="run all of it, and keep nothing")
    parser.add_argument(
        "--cold", action="store_true", help="run twice, the first time with nothing compiled, and keep both times"
    )
    options = parser.parse_args(arguments)
    if options.cold and not options.workers:
        parser.error("--cold needs --workers: a process has in memory what it compiled")
    return options


def _key(options: argparse.Namespace, op: str) -> str:
    where = "" if options.device == "cpu" else f" on {_name(options.device)}"
    return f"{options.name}{where}/{options.judge.value}/level {options.level}/{op}"


def _name(device: str) -> str:
    name: str = torch.get_device_module(device).get_device_name()
    return name


def _results(options: argparse.Namespace, ops: Sequence[str]) -> Iterator[tuple[str, dict[str, Json]]]:
    """What is found of each operation, as it comes."""
    if not options.workers:
        for op in ops:
            outcome, busy = _run(options, op)
            yield op, _kept(options, outcome, busy)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        options.workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        parts = {op: [pool.submit(_run, options, op, part, _PARTS) for part in range(_PARTS)] for op in ops}
        for op, running in parts.items():
            done = [one.result() for one in running]
            yield op, _kept(options, _joined([outcome for outcome, _ in done]), sum(busy for _, busy in done))


def _cold_results(options: argparse.Namespace, ops: Sequence[str]) -> Iterator[tuple[str, dict[str, Json]]]:
    """The same, with the time of a first run, which has to compile what the second one finds on disk."""
    with TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty
        for op in ops:
            ((_, first),) = _results(options, [op])
            ((_, found),) = _results(options, [op])
            yield op, found | {"first_processor_seconds": first["processor_seconds"]}


def _run(options: argparse.Namespace, op: str, part: int = 0, parts: int = 1) -> tuple[Outcome, float]:
    """Run every `parts`-th case of one operation; the outcome, and the processor time."""
    (implementation,) = find_implementations(options.implementation, options.device)
    candidate = implementation.candidates[op]
    others = [
        case.key for i, case in enumerate(plan_cases(candidate, level=options.level)) if parts > 1 and i % parts != part
    ]
    busy = time.process_time()
    outcome = run(
        Implementation.of(implementation.name, candidate),
        level=options.level,
        answers=Answers(options.judge),
        device=options.device,
        most_seconds=options.seconds,
        leave_out=frozenset(others),
    )
    was_cut = options.seconds is not None and outcome.seconds > options.seconds
    return replace(outcome, is_whole=outcome.is_whole or (parts > 1 and not was_cut)), time.process_time() - busy


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    """All parts of an operation as one run."""
    results = [result for outcome in outcomes for result in outcome.results]
    is_whole = all(outcome.is_whole for outcome in outcomes)
    return replace(
        outcomes[0], results=results, is_whole=is_whole, seconds=sum(outcome.seconds for outcome in outcomes)
    )


def _is_current(known: Mapping[str, Json]) -> bool:
    """Whether a result is of the sources as they are, and nothing was wrong."""
    return known["sources"] == _sources() and not known["not_passed"]


def _sources() -> str:
    return suite_digest()[:16]


def _kept(options: argparse.Namespace, outcome: Outcome, busy: float) -> dict[str, Json]:
    found: dict[str, Json] = {
        "suite": SUITE,
        "sources": _sources(),
        "verdict": outcome.verdict,
        "is_good": outcome.is_good,
        "counts": {status.value: count for status, count in outcome.counts.items() if count},
        "seconds": round(outcome.seconds, 1),
        "processor_seconds": round(busy, 1),
        "not_passed": [_described(one) for one in outcome.results if one.status.is_bad][:_MOST_FAILURES],
        "environment": environment(),
    }
    return found if options.device == "cpu" else found | {"device": _name(options.device)}


def _failures(found: Mapping[str, Json]) -> str:
    failures = found["not_passed"]
    assert isinstance(failures, list)
    return "".join(f"  {one}\n" for one in failures)


def _described(result: Result) -> str:
    return f"{result.status.value} {result.key}: {result.reason}"


if __name__ == "__main__":
    sys.exit(main())
