"""Speed of the backend "cpu" beside a copy, PyTorch's own products and other libraries.

python -m benchmarks.speed [ENVIRONMENTS] [--only PART ...] [--rounds 5] [--quick] [--json FILE] [--plot FILE]

Every figure is a ratio of times that were taken in turn in one process, or in processes in turn: the median of the
rounds, the least and the greatest. A conversion reads and writes every element once, so a copy into memory that is
already there is its floor. Other libraries run in processes of their own, each beside a copy of its own; ENVIRONMENTS
is a directory with one directory for each, made by `pip install --target`. A run is added to those that FILE has.
Nothing is measured unless the kernels pass the conformance suite at level 0 first. What this processor can't show is
said so. The exit status is 1 if a kernel is wrong, 2 if a bar is missed.
"""

import argparse
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.model_peer import ask_neural_compressor
from benchmarks.product_peer import ask_onnxruntime
from benchmarks.speed_curves import layer_curve, rows_curve, size_curve, thread_curve
from benchmarks.speed_int8 import int8_rows
from benchmarks.speed_models import forward_row, gptq_row, import_rows, product_rows
from benchmarks.speed_peer import PEERS, ask
from benchmarks.speed_plot import plot
from benchmarks.speed_result import Better, Judged, Ratio, not_measured, ratio_of
from benchmarks.speed_rows import Family, rows
from benchmarks.timing import Times, measure
from conformance.record import Json, environment
from incref.conformance.implementation import Implementation
from incref.conformance.result import Status
from incref.conformance.run import run
from incref_kernels.cpu import BACKEND
from incref_kernels.cpu.processor import instructions

__all__ = ["PARTS", "VERSION", "main"]

VERSION = 2
"""Of the form of the JSON: a list of runs, each with the parts that were measured."""

_OPS = (
    "cast",
    "fake_quantize_mx",
    "fake_quantize_float",
    "fake_quantize_affine",
    "quantize_affine",
    "pack",
    "weight_only_matmul",
    "int8_matmul",
    "gptq_update",
)
_PEER_ROUNDS = 2
_SLOW_PEER = Judged(
    work="quantize and dequantize, MX formats: Neural Compressor's time",
    base="incref",
    better=Better.MORE,
    bar=50.0,
    stretch=75.0,
)


def _is_right() -> bool:
    judged = run(Implementation.of_backend(BACKEND), level=0, ops=_OPS)
    return all(one.status in (Status.PASS, Status.NOT_SUPPORTED) for one in judged.results)


def _conversions(arguments: argparse.Namespace) -> dict[str, Any]:
    x = torch.randn(arguments.mebibytes * 64, 4096, generator=torch.Generator().manual_seed(0))
    copy = partial(torch.empty_like(x).copy_, x)
    found: dict[str, Any] = {}
    worst: dict[Family, tuple[str, Ratio]] = {}
    console = Console(stderr=True)
    for row in track(list(rows(x)), description="conversions", console=console, transient=True):
        fast = {name: function for name, function in row.functions.items() if name != "reference"}
        times = measure({"copy_": copy, "clone": x.clone, **fast}, rounds=arguments.rounds)
        # It takes tens of times as long, and is there for scale.
        start = time.perf_counter()
        row.functions["reference"]()
        once = time.perf_counter() - start
        times["reference"] = Times(median=once, least=once, greatest=once)
        base = times.pop("copy_")
        ratios = {name: ratio_of(one, base) for name, one in times.items()}
        found[row.name] = {
            "copy_milliseconds": round(base.median * 1e3, 3),
            "floor": round(row.floor, 2),
            "ratios": {name: one.as_json() for name, one in ratios.items()},
        }
        own = ratios.get("cpu") or ratios["cpu, new"]
        if row.family is not None and (row.family not in worst or own.ratio > worst[row.family][1].ratio):
            worst[row.family] = row.name, own
    judged = [
        Judged(
            work=f"{family.value}; the slowest, {name}",
            base="copy_",
            better=Better.LESS,
            bar=family.bars[0],
            stretch=family.bars[1],
            found=ratio,
        )
        for family, (name, ratio) in worst.items()
    ]
    return {"mebibytes": arguments.mebibytes, "rows": found, "judged": judged}


def _peers(arguments: argparse.Namespace) -> dict[str, Any]:
    peers = {name: ask(name, arguments.environments, arguments.mebibytes, _PEER_ROUNDS) for name in PEERS}
    slow = peers["neural-compressor-pt"]
    if isinstance(slow, str):
        return {"peers": peers, "judged": not_measured(slow, _SLOW_PEER)}
    least = min((one["incref"] for one in slow["ratios"].values()), key=lambda one: float(one["ratio"]))
    judged = Judged(
        work=_SLOW_PEER.work,
        base=f"incref, against {slow['version']}",
        better=Better.MORE,
        bar=_SLOW_PEER.bar,
        stretch=_SLOW_PEER.stretch,
        found=Ratio(**least),
    )
    return {"peers": peers, "judged": [judged]}


def _onnxruntime(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"products": ask_onnxruntime(arguments.environments, arguments.rounds), "judged": []}


def _models(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"models": ask_neural_compressor(arguments.environments, arguments.rounds), "judged": []}


def _curves(arguments: argparse.Namespace) -> dict[str, Any]:
    widths = [512, 1024] if arguments.quick else [512, 1024, 2048, 4096, 8192]
    sizes = [(512, rows) for rows in (512, 2048, 8192)]
    if not arguments.quick:
        sizes += [(1024, rows) for rows in (512, 2048, 8192, 16384)]
    return {
        "mebibytes": arguments.mebibytes,
        "size": size_curve(range(10, 21 if arguments.quick else 29, 2), 3),
        "threads": thread_curve(arguments.mebibytes, 3),
        "layers": layer_curve(widths, 3),
        "gptq": rows_curve(sizes, 1),
        "judged": [],
    }


PARTS: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = MappingProxyType(
    {
        "conversions": _conversions,
        "peers": _peers,
        "gptq": lambda arguments: {"judged": [gptq_row(arguments.environments, _PEER_ROUNDS)]},
        "products": lambda arguments: {"judged": product_rows(arguments.rounds)},
        "int8": lambda arguments: {"judged": int8_rows(arguments.rounds)},
        "onnxruntime": _onnxruntime,
        "models": _models,
        "forward": lambda arguments: {"judged": [forward_row(arguments.rounds)]},
        "imports": lambda arguments: {"judged": import_rows(arguments.rounds)},
        "curves": _curves,
    }
)
"""What can be measured, in the order of the tables."""

_QUICK = ("conversions", "int8", "imports", "curves")


def _show(result: dict[str, Any], console: Console) -> None:
    for part, found in result["parts"].items():
        console.print(f"[bold]{part}")
        for row in found["judged"]:
            sign = "at most" if row["better"] == Better.LESS.value else "at least"
            what = f"{row['work']}, beside {row['base']}"
            if "reason" in row:
                console.print(f"  {what}: {row['reason']}")
                continue
            ratio = f"{row['ratio']}" if row["is_met"] else f"[red]{row['ratio']}[/red]"
            console.print(f"  {ratio} ({row['least']} to {row['greatest']}; {sign} {row['bar']}) {what}")


def _store(result: dict[str, Any], path: Path) -> None:
    stored: dict[str, Json] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}
    runs = stored["runs"]
    assert isinstance(runs, list)
    path.write_text(json.dumps({"version": VERSION, "runs": [*runs, result]}, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Judge, measure, print, and store the run if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", type=Path, nargs="?", help="of other libraries")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="what is measured; all if left out")
    parser.add_argument("--mebibytes", type=int, default=64, help="size of the float32 tensor")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed")
    parser.add_argument("--quick", action="store_true", help="no other libraries, no model, short curves")
    parser.add_argument("--json", type=Path, help="file that the run is added to")
    parser.add_argument("--plot", type=Path, help="PNG of the curves; needs matplotlib")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    if reason := BACKEND.why_unavailable():
        console.print(f"nothing to measure: {reason}")
        return 1
    threads = torch.get_num_threads()
    if not _is_right():
        console.print("[red]the kernels fail the conformance suite; nothing is measured")
        return 1
    torch.set_num_threads(threads)
    parts: dict[str, Any] = {}
    for name in arguments.only or (_QUICK if arguments.quick else PARTS):
        console.print(name)
        found = PARTS[name](arguments)
        parts[name] = {**found, "judged": [row.as_json() for row in found["judged"]]}
    result: dict[str, Any] = {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "environment": environment(),
        "setting": {
            "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "0"),
            "threads": threads,
            "instructions": instructions(),
        },
        "rounds": arguments.rounds,
        "parts": parts,
    }
    _show(result, Console(highlight=False, soft_wrap=True))
    if arguments.json is not None:
        _store(result, arguments.json)
    if arguments.plot is not None and "curves" in parts:
        plot(parts["curves"], arguments.plot)
    missed = any(row.get("is_met") is False for part in parts.values() for row in part["judged"])
    return 2 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
