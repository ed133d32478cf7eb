"""The Triton kernels on the device that they run on, compared with the oracle and the references.

python -m conformance.triton_l2 --json FILE [--sections sweep scales] [--workers 8] [--seconds 300]

Most of the time goes into compiling a kernel for each combination of options, so several processes share the cases.
Without a GPU the kernels are compiled for the CPU, or interpreted under TRITON_INTERPRET=1; give it a --stride and a
--limit then.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from conformance.device_cases import SECTIONS, DeviceCase, Where
from conformance.grouped_cases import GROUPED_SECTIONS
from conformance.matmul_cases import MATMUL_SECTIONS
from conformance.record import Json, environment, source_hash
from incref_kernels.triton.available import is_interpreting

__all__ = ["environment_of_device", "find_device", "main"]

_WRITTEN_EVERY = 64
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


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file that the results are written to")
    parser.add_argument("--sections", nargs="+", choices=[*_SECTIONS], default=[*_SECTIONS])
    parser.add_argument("--workers", type=int, default=8, help="processes; 0 for none beside this one")
    parser.add_argument("--seconds", type=float, default=540.0, help="no case is begun later than that")
    parser.add_argument("--chunk", type=int, default=1 << 26, help="patterns that are compared at once")
    parser.add_argument("--stride", type=int, default=1, help="compare every n-th chunk")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of blocks")
    parser.add_argument("--limit", type=int, default=None, help="cases of each section; all if not given")
    return parser.parse_args(arguments)


def _summary(results: dict[str, dict[str, Json]]) -> dict[str, Json]:
    return {
        "cases": len(results),
        "skipped": sum("skipped" in result for result in results.values()),
        "errors": sum("error" in result for result in results.values()),
        "wrong": sum(bool(result.get("mismatches")) for result in results.values()),
        "checked": sum(int(str(result.get("checked", 0))) for result in results.values()),
    }


@dataclass(kw_only=True)
class _Report:
    """Results as they come, written now and then, so that a run that is cut short leaves what it found."""

    path: Path
    begun: float
    results: dict[str, dict[str, Json]] = field(default_factory=dict)

    def note(self, key: str, result: dict[str, Json]) -> None:
        """Keep a result, and print it if something is wrong."""
        self.results[key] = result
        if "error" in result or result.get("mismatches"):
            sys.stdout.write(f"{key}: {json.dumps(result)}\n")
            sys.stdout.flush()
        if len(self.results) % _WRITTEN_EVERY == 0:
            self.write()

    def write(self) -> dict[str, Json]:
        """Write all, and give the summary."""
        summary = _summary(self.results)
        about: dict[str, Json] = {"environment": environment_of_device(), "sources": source_hash()}
        about |= {"seconds": round(time.time() - self.begun, 1), "summary": summary}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**about, "results": self.results}, indent=1) + "\n")
        return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 1 if a case is wrong, fails, or found no time."""
    options = _options(arguments)
    begun = time.time()
    plan = _Plan(chunk=options.chunk, stride=options.stride, scale=options.scale, deadline=begun + options.seconds)
    run, cases = partial(_check, plan), list(_cases(options.sections, options.limit))
    report = _Report(path=options.json, begun=begun)
    if options.workers:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            options.workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            for key, result in pool.map(run, cases):
                report.note(key, result)
    else:
        for case in cases:
            report.note(*run(case))
    summary = report.write()
    sys.stdout.write(f"{json.dumps(summary)} in {time.time() - begun:.0f} s\n")
    return int(any(summary[name] for name in ("skipped", "errors", "wrong")))


if __name__ == "__main__":
    sys.exit(main())
