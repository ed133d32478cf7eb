"""Runs of the suite that are kept: an implementation, a judge and a level, operation by operation.

What has a result for the sources as they are is not run again, so an interrupted run goes on where it was.

python -m conformance.runs reference --judge oracle --level 2
python -m conformance.runs triton --level 1 --op encode --op decode
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

from conformance.record import Json, environment, load, store
from incref.conformance.answers import Answers, Judge
from incref.conformance.discovery import find_implementations
from incref.conformance.implementation import Implementation
from incref.conformance.result import Outcome, Result
from incref.conformance.run import run
from incref.conformance.suite import SUITE, suite_digest

__all__ = ["main"]

_KIND = "runs"
_MOST_FAILURES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and keep what was found; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("implementation", help="reference, or the name of a backend")
    parser.add_argument("--judge", type=Judge, default=Judge.REFERENCE, choices=list(Judge))
    parser.add_argument("--level", type=int, default=2, choices=(0, 1, 2))
    parser.add_argument("--op", action="append", help="only this operation; may be repeated")
    parser.add_argument("--again", action="store_true", help="run also what has a result for these sources")
    options = parser.parse_args(arguments)
    (implementation,) = find_implementations(options.implementation)
    is_good, kept = True, load(_KIND)
    for op, candidate in implementation.candidates.items():
        if options.op and op not in options.op:
            continue
        key = f"{implementation.name}/{options.judge.value}/level {options.level}/{op}"
        known = kept.get(key)
        if not options.again and isinstance(known, dict) and _is_current(known):
            sys.stdout.write(f"{op}: {known['verdict']}, from an earlier run\n")
            continue
        busy = time.process_time()
        # On its own, so that an operation's verdict is of a whole level.
        outcome = run(
            Implementation.of(implementation.name, candidate), level=options.level, answers=Answers(options.judge)
        )
        found = _kept(outcome, time.process_time() - busy)
        store(_KIND, key, found)
        sys.stdout.write(f"{op}: {outcome.verdict}, {outcome.seconds:.0f} s\n")
        sys.stdout.flush()
        is_good &= outcome.is_good
    return 0 if is_good else 1


def _is_current(known: Mapping[str, Json]) -> bool:
    """Whether a result is of the sources as they are, and nothing was wrong."""
    return known["sources"] == _sources() and not known["not_passed"]


def _sources() -> str:
    return suite_digest()[:16]


def _kept(outcome: Outcome, busy: float) -> dict[str, Json]:
    return {
        "suite": SUITE,
        "sources": _sources(),
        "verdict": outcome.verdict,
        "counts": {status.value: count for status, count in outcome.counts.items() if count},
        "seconds": round(outcome.seconds, 1),
        "processor_seconds": round(busy, 1),
        "not_passed": [_described(one) for one in outcome.results if one.status.is_bad][:_MOST_FAILURES],
        "environment": environment(),
    }


def _described(result: Result) -> str:
    return f"{result.status.value} {result.key}: {result.reason}"


if __name__ == "__main__":
    sys.exit(main())
