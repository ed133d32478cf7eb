"""An outcome as a summary for people and as JSON for programs."""

import math
import platform
from collections import Counter

import torch
from rich.console import Console
from rich.table import Table

from incref.conformance.case import argument_text
from incref.conformance.comparison import Mismatch
from incref.conformance.result import Outcome, Result, Status
from incref.conformance.suite import suite_digest

__all__ = ["SCHEMA", "Json", "as_json", "environment", "print_summary"]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""What `json.loads` gives."""

SCHEMA = "incref-conformance-result/1"
"""Name and version of what `as_json` makes; the version rises when a key changes its meaning or goes."""

_MOST_SHOWN = 10
_MOST_PLACES = 64


def as_json(outcome: Outcome) -> dict[str, Json]:
    """Give an outcome as JSON values: every case by its key, details of those that did not pass."""
    return {
        "schema": SCHEMA,
        "suite": {"version": outcome.suite, "sha256": suite_digest()},
        "implementation": outcome.implementation,
        "verdict": outcome.verdict,
        "is_good": outcome.is_good,
        "level": outcome.level,
        "seed": outcome.seed,
        "profile": outcome.profile,
        "judge": outcome.judge,
        "is_whole": outcome.is_whole,
        "missing": list(outcome.missing),
        "declared": {op: _declared(found) for op, found in outcome.declared.items()},
        "counts": {status.value: count for status, count in outcome.counts.items()},
        "by_op": _by_op(outcome),
        "environment": environment(),
        "seconds": round(outcome.seconds, 3),
        "cases": {result.key: result.status.value for result in outcome.results},
        "not_passed": [_described(result) for result in outcome.results if result.status is not Status.PASS],
    }


def environment() -> dict[str, Json]:
    """What a run was made with."""
    found: dict[str, Json] = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "system": platform.system(),
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
        found["device"] = torch.cuda.get_device_name()
    return found


def _declared(found: object) -> Json:
    assert isinstance(found, dict)
    return {str(name): _plain(one) for name, one in found.items()}


def _plain(value: object) -> Json:
    if isinstance(value, dict):
        return _declared(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | str) else argument_text(value)


def _by_op(outcome: Outcome) -> Json:
    counts: dict[str, Counter[str]] = {}
    for result in outcome.results:
        counts.setdefault(result.op, Counter())[result.status.value] += 1
    return {op: dict(found) for op, found in counts.items()}


def _described(result: Result) -> dict[str, Json]:
    found: dict[str, Json] = {"key": result.key, "status": result.status.value, "reason": result.reason}
    if result.hint:
        found["hint"] = result.hint
    if result.mismatch is not None:
        found["mismatch"] = _mismatch(result.mismatch)
    return found


def _mismatch(mismatch: Mismatch) -> dict[str, Json]:
    return {
        "result": mismatch.result,
        "count": mismatch.count,
        "total": mismatch.total,
        "shape": list(mismatch.shape),
        "places": [list(place) for place in mismatch.places[:_MOST_PLACES]],
        "kinds": {kind.value: count for kind, count in mismatch.kinds.items()},
        "steps": list(mismatch.steps[:_MOST_PLACES]),
        "shares_of_bound": [share if math.isfinite(share) else None for share in mismatch.shares[:_MOST_PLACES]],
        "got": mismatch.got,
        "want": mismatch.want,
        "got_bits": mismatch.got_bits,
        "want_bits": mismatch.want_bits,
    }


def print_summary(outcome: Outcome, console: Console) -> None:
    """Print counts by operation, the first failures, and the verdict."""
    table = Table(title=f"{outcome.implementation}, level {outcome.level}, seed {outcome.seed}")
    table.add_column("operation")
    shown = [status for status, count in outcome.counts.items() if count]
    for status in shown:
        table.add_column(status.value.replace("_", " "), justify="right")
    for op in outcome.ops:
        counts = Counter(result.status for result in outcome.results if result.op == op)
        table.add_row(op, *(str(counts[status]) for status in shown))
    console.print(table)
    bad = [result for result in outcome.results if result.status.is_bad]
    for result in bad[:_MOST_SHOWN]:
        console.print(f"{result.status.value.upper()} {result.key}\n  {result.reason}", markup=False)
        if result.hint:
            console.print(f"  hint: {result.hint}", markup=False)
    if len(bad) > _MOST_SHOWN:
        console.print(f"... and {len(bad) - _MOST_SHOWN} more")
    if outcome.missing:
        console.print(f"the profile also needs: {', '.join(outcome.missing)}")
    console.print(outcome.verdict, markup=False)
