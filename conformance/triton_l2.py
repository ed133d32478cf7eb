"""The Triton kernels on the device that they run on, compared with the oracle and the references.

python -m conformance.triton_l2 --json FILE [--sections sweep scales] [--workers 8] [--seconds 300] [--record NAME]

On a GPU most of the time goes into compiling a kernel for each combination of options, so several processes share the
cases. Without one the kernels are compiled for the CPU, a sweep in 3 s of a core, or interpreted under
TRITON_INTERPRET=1; give it a --stride and a --limit then. A run goes on where FILE ends, if its sources are the same.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import cycle, islice
from multiprocessing import SimpleQueue
from pathlib import Path

import torch

from conformance.device_cases import SECTIONS, DeviceCase, Where
from conformance.grouped_cases import GROUPED_SECTIONS
from conformance.matmul_cases import MATMUL_SECTIONS
from conformance.record import Json, environment, load, source_hash, store
from incref_kernels.llvm import disk
from incref_kernels.llvm.disk import source_digest
from incref_kernels.triton.available import is_interpreting

__all__ = ["environment_of_device", "find_device", "main"]

_WRITTEN_EVERY = 30.0
# A chunk of a sweep stays in the cache of a processor's core; to a GPU a launch must be worth while.
_CHUNK_ON_CPU, _CHUNK_ON_GPU = 1 << 20, 1 << 26
_SECTIONS = {**MATMUL_SECTIONS, **GROUPED_SECTIONS, **SECTIONS}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What every worker needs to know."""

    chunk: int
    stride: int
    scale: float
    deadline: float


def _cases(sections: Sequence[str], limit: int | None) -> Iterator[DeviceCase]:
    for section in sections:
        yield from islice(_SECTIONS[section](), limit)


def find_device() -> torch.device:
    """Give the GPU, or the CPU where there is none."""
    for kind in ("cuda", "xpu"):
        if getattr(torch, kind).is_available():
            return torch.device(kind)
    return torch.device("cpu")


def _check(plan: _Plan, case: DeviceCase) -> tuple[str, dict[str, Json]]:
    """Run one case, unless the time is up."""
    if time.time() > plan.deadline:
        return case.key, {"skipped": "out of time"}
    # Where this runs, packages are not installed, so the backend is imported by its path.
    from incref_kernels.triton import BACKEND  # noqa: PLC0415  # after the process has chosen how Triton runs

    where = Where(backend=BACKEND, device=find_device(), chunk=plan.chunk, stride=plan.stride, scale=plan.scale)
    begun = time.perf_counter()
    try:
        finding = case.check(where)
    except Exception as error:  # noqa: BLE001  # a kernel that fails must not hide what the others do
        return case.key, {"error": f"{type(error).__name__}: {error}"[:2000]}
    return case.key, {
        "checked": finding.checked,
        "mismatches": finding.mismatches,
        "first": finding.first,
        "seconds": round(time.perf_counter() - begun, 3),
    }


def environment_of_device() -> dict[str, Json]:
    """Say what a result was measured with, the GPU included."""
    import triton  # noqa: PLC0415  # not needed to read this module

    device = find_device()
    if device.type == "cpu":
        name = "Triton's interpreter" if is_interpreting() else "compiled for the CPU"
    else:
        name = torch.get_device_module(device).get_device_name()
    return environment() | {"triton": triton.__version__, "device": name}


def _begin(cores: "SimpleQueue[set[int]]") -> None:
    """Make a process one of several side by side: each thread of a native kernel takes a core."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, cores.get())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file that the results are written to")
    parser.add_argument("--sections", nargs="+", choices=[*_SECTIONS], default=[*_SECTIONS])
    parser.add_argument("--workers", type=int, default=8, help="processes; 0 for none beside this one")
    parser.add_argument("--seconds", type=float, default=540.0, help="no case is begun later than that")
    parser.add_argument("--chunk", type=int, default=None, help="patterns that are compared at once")
    parser.add_argument("--stride", type=int, default=1, help="compare every n-th chunk")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of blocks")
    parser.add_argument("--limit", type=int, default=None, help="cases of each section; all if not given")
    parser.add_argument("--record", default=None, help="name under which totals are put among the recorded results")
    return parser.parse_args(arguments)


def _summary(results: dict[str, dict[str, Json]]) -> dict[str, Json]:
    return {
        "cases": len(results),
        "skipped": sum("skipped" in result for result in results.values()),
        "errors": sum("error" in result for result in results.values()),
        "wrong": sum(bool(result.get("mismatches")) for result in results.values()),
        "checked": sum(int(str(result.get("checked", 0))) for result in results.values()),
    }


def _sources() -> str:
    """Digest of all that decides a result: what `source_hash` names, the kernels and their compiler, and the cases."""
    here = Path(__file__).parent
    digest = sha256(f"{source_hash()} {source_digest([Path(disk.__file__).parents[1]])}".encode())
    for name in ("device_cases.py", "grouped_cases.py", "matmul_cases.py", "triton_l2.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


@dataclass(kw_only=True)
class _Report:
    """Results as they come, written now and then, so that a run that is cut short leaves what it found.

    Attributes:
        path: of the file.
        about: what the results depend on.
        results: by the keys of the cases.
        seconds: how long runs took until `written`.
        written: when that was.
    """

    path: Path
    about: dict[str, Json]
    results: dict[str, dict[str, Json]] = field(default_factory=dict)
    seconds: float = 0.0
    written: float = field(default_factory=time.time)

    def resume(self) -> None:
        """Take over what was found right by a run of the same sources on the same device."""
        found = json.loads(self.path.read_text()) if self.path.exists() else {}
        if all(found.get(name) == value for name, value in self.about.items()):
            self.results = {key: result for key, result in found["results"].items() if result.get("mismatches") == 0}
            self.seconds = found["seconds"]

    def note(self, key: str, result: dict[str, Json]) -> None:
        """Keep a result, and print it if something is wrong."""
        self.results[key] = result
        if "error" in result or result.get("mismatches"):
            sys.stdout.write(f"{key}: {json.dumps(result)}\n")
            sys.stdout.flush()
        if time.time() > self.written + _WRITTEN_EVERY:
            self.write()

    def write(self) -> dict[str, Json]:
        """Write all, and give the summary."""
        self.seconds += time.time() - self.written
        self.written = time.time()
        summary = _summary(self.results)
        content = {**self.about, "seconds": round(self.seconds, 1), "summary": summary, "results": self.results}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(content, indent=1) + "\n")
        return summary

    def record(self, name: str) -> None:
        """Put the totals of each section that was run among the recorded results of the device called `name`."""
        known = load("triton").get(name)
        sections = dict(known["sections"]) if isinstance(known, dict) and isinstance(known["sections"], dict) else {}
        for section, cases in _SECTIONS.items():
            found = {key: result for key, result in self.results.items() if key.startswith(f"{section}/")}
            if found:
                seconds = sum(float(str(result.get("seconds", 0))) for result in found.values())
                sections[section] = _summary(found) | {
                    "of": len({case.key for case in cases()}),
                    "seconds": round(seconds),
                    "sources": self.about["sources"],
                }
        store("triton", name, {"environment": self.about["environment"], "sections": sections})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 1 if a case is wrong, fails, or found no time."""
    options = _options(arguments)
    begun = time.time()
    chunk = options.chunk or (_CHUNK_ON_CPU if find_device().type == "cpu" else _CHUNK_ON_GPU)
    plan = _Plan(chunk=chunk, stride=options.stride, scale=options.scale, deadline=begun + options.seconds)
    run = partial(_check, plan)
    settings = {name: getattr(options, name) for name in ("stride", "scale")}
    report = _Report(
        path=options.json, about={"environment": environment_of_device(), "sources": _sources(), **settings}
    )
    report.resume()
    cases = [case for case in _cases(options.sections, options.limit) if case.key not in report.results]
    if options.workers:
        context = multiprocessing.get_context("spawn")
        usable = os.sched_getaffinity(0)
        cores = context.SimpleQueue()
        for core in islice(cycle(sorted(usable)), options.workers):
            cores.put({core} if find_device().type == "cpu" else usable)
        with ProcessPoolExecutor(options.workers, mp_context=context, initializer=_begin, initargs=(cores,)) as pool:
            for key, result in pool.map(run, cases):
                report.note(key, result)
    else:
        for case in cases:
            report.note(*run(case))
    summary = report.write()
    if options.record:
        report.record(options.record)
    sys.stdout.write(f"{json.dumps(summary)} in {time.time() - begun:.0f} s\n")
    return int(any(summary[name] for name in ("skipped", "errors", "wrong")))


if __name__ == "__main__":
    sys.exit(main())
