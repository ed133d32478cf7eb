"""Faults planted in the sources of the Triton kernels that are shipped, and what the suite says of each.

python -m conformance.triton_faults [--json FILE] [--only NAME ...]

A copy of the package with one step of its device code changed is compiled for the CPU and judged, level by level.
"""

import argparse
import importlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import triton

import incref_kernels.triton
from conformance.device_cases import Where
from conformance.grouped_cases import GroupedCase, grouped_cases
from conformance.record import Json
from conformance.triton_mutations import MUTATIONS, Judge, Mutation
from incref.backends.backend import Backend
from incref.conformance.implementation import Implementation
from incref.conformance.result import Status
from incref.conformance.run import run
from incref_kernels.triton.targets import Factors

__all__ = ["find", "main", "mutated"]

_SOURCES = Path(incref_kernels.triton.__file__).parent
# Its modules stay what they are: they run the kernels, and are none.
_KEPT = "native"
_MOST_LEVEL = 1


# No GPU that the cases of groups were run on has such units.
_BY_BLOCKS = tuple(
    GroupedCase(op="mx_matmul", fmt=fmt, ends=(0, 3, 3, 20, 47), rows=50, options=(("factors", Factors.BLOCKS),))
    for fmt in ("mxfp8_e4m3", "mxfp4")
)


def _package(mutation: Mutation) -> str:
    return f"mutant_{mutation.name}"


@contextmanager
def mutated(mutation: Mutation) -> Iterator[Backend]:
    """Import a copy of the package in which a mutation was made, under a name of its own.

    Raises:
        ValueError: if its file does not have the old text exactly once.
    """
    package = _package(mutation)
    with tempfile.TemporaryDirectory(prefix="incref-mutant-") as folder:
        for path in _SOURCES.rglob("*.py"):
            place = path.relative_to(_SOURCES)
            if place.parts[0] == _KEPT:
                continue
            text = path.read_text()
            if place.as_posix() == mutation.file:
                if text.count(mutation.old) != 1:
                    raise ValueError(f"{place} must have {mutation.old!r} once, got {text.count(mutation.old)}")
                text = text.replace(mutation.old, mutation.new)
            target = Path(folder, package, place)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(re.sub(rf"incref_kernels\.triton(?!\.{_KEPT})", package, text))
        sys.path.insert(0, folder)
        try:
            yield importlib.import_module(package).BACKEND
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]


def find(mutation: Mutation) -> dict[str, Json]:
    """Judge a mutation: the level, or the judge that has none, and the case that found it, or None for both."""
    with mutated(mutation) as backend:
        if mutation.judge is Judge.EXPERTS:
            return _find_by_experts(mutation, backend)
        implementation = Implementation.of_backend(backend)
        for level in range(_MOST_LEVEL + 1):
            outcome = run(
                implementation, level=level, least_level=level, ops=[mutation.op], stop_at=[Status.FAIL, Status.ERROR]
            )
            last = outcome.results[-1]
            if last.status is Status.FAIL:
                return {"op": mutation.op, "level": level, "by": last.key}
            if last.status is Status.ERROR:
                raise RuntimeError(f"{mutation.name} does not run: {last.reason}")
    return {"op": mutation.op, "level": None, "by": None}


def _find_by_experts(mutation: Mutation, backend: Backend) -> dict[str, Json]:
    own = importlib.import_module(f"{_package(mutation)}.targets").Factors
    where = Where(backend=backend, device=torch.device("cpu"), chunk=1)
    for case in [*grouped_cases(), *_BY_BLOCKS]:
        assert isinstance(case, GroupedCase)
        if case.op == mutation.op:
            # The copy has a type of its own.
            options = [
                (name, own(value.value) if isinstance(value, Factors) else value) for name, value in case.options
            ]
            if replace(case, options=tuple(options)).check(where).mismatches:
                return {"op": mutation.op, "level": mutation.judge.value, "by": case.key}
    return {"op": mutation.op, "level": None, "by": None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge all; the exit status is 1 if one is not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="file that the verdicts are written to")
    parser.add_argument("--only", nargs="+", default=[""], help="mutations whose names contain one of these")
    options = parser.parse_args(arguments)
    verdicts = _read(options.json)
    for mutation in MUTATIONS:
        if any(part in mutation.name for part in options.only):
            verdict = find(mutation)
            verdicts[mutation.name] = dict(verdict)
            sys.stdout.write(f"{mutation.name}: {verdict['level']} {verdict['by']}\n")
            sys.stdout.flush()
            if options.json:
                kept = {one.name: verdicts[one.name] for one in MUTATIONS if one.name in verdicts}
                options.json.write_text(json.dumps({"triton": triton.__version__, "faults": kept}, indent=1) + "\n")
    return int(any(verdict["level"] is None for verdict in verdicts.values()))


def _read(path: Path | None) -> dict[str, dict[str, Json]]:
    """Read the verdicts that were recorded."""
    return dict(json.loads(path.read_text())["faults"]) if path is not None and path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
