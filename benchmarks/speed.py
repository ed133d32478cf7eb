"""Speed of the references in eager mode, as a ratio to a copy of the tensor, beside peers.

python -m benchmarks.speed [--mebibytes 64] [--rounds 7] [--json FILE]

A conversion reads and writes every element once, so a copy into memory that is already there is its floor. Results are
new tensors, as they are for a user; `clone` is the floor of those, since the system has to find their pages first.
THP_MEM_ALLOC_ENABLE=1 makes PyTorch ask for large pages, as numpy does. Nothing is printed unless the operations agree
with the oracle first.
"""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.peers import peer_functions, peer_versions
from benchmarks.timing import Times, measure
from conformance.record import Json, environment, store
from conformance.sweep import EncodeCase
from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, get_format
from incref.numerics.granularity import PER_TOKEN, per_channel, per_group
from incref.ops import (
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    quantize_affine,
    quantize_float,
    quantize_mx,
)

__all__ = ["main"]

_ELEMENTS = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
    "float8_e8m0fnu",
)
_BLOCKS = tuple(fmt.name for fmt in FORMATS.values() if isinstance(fmt, BlockFormat))
_BOUNDS = {"element": 20.0, "block": 25.0}


def _fake_quantize_element(x: Tensor, fmt: str) -> Tensor:
    return decode(encode(x, fmt), fmt)


def _fake_quantize_blocks(x: Tensor, fmt: str) -> Tensor:
    codes, scale, *rest = quantize_mx(x, fmt)
    return dequantize_mx(codes, scale, fmt, tensor_scale=rest[0] if rest else None)


def _rows(x: Tensor) -> dict[tuple[str, str], dict[str, Callable[[], object]]]:
    """Functions to time, by (kind, name) of a row and by who computes it."""
    rows: dict[tuple[str, str], dict[str, Callable[[], object]]] = {}
    for name in _ELEMENTS:
        rows["element", name] = {
            "encode": partial(encode, x, name),
            "incref": partial(_fake_quantize_element, x, name),
            **peer_functions(x, name),
        }
    for name in _BLOCKS:
        rows["block", name] = {
            "encode": partial(quantize_mx, x, name),
            "incref": partial(_fake_quantize_blocks, x, name),
            **peer_functions(x, name),
        }
    for name, fmt, granularity in (
        ("int8 per channel", "int8", per_channel()),
        ("int4, groups of 128", "int4", per_group(128)),
    ):
        quantize = partial(quantize_affine, x, fmt, granularity=granularity)

        def affine(run: Callable[[], tuple[Tensor, ...]] = quantize, granularity: object = granularity) -> Tensor:
            return dequantize_affine(*run(), granularity=granularity)  # type: ignore[arg-type]

        rows["scaled", name] = {"encode": quantize, "incref": affine}
    quantize_fp8 = partial(quantize_float, x, "e4m3fn", granularity=PER_TOKEN)
    rows["scaled", "float8_e4m3fn per token"] = {
        "encode": quantize_fp8,
        "incref": lambda: dequantize_float(*quantize_fp8(), "e4m3fn", granularity=PER_TOKEN),
    }
    return rows


def _is_right(console: Console) -> bool:
    """Check every element format that is timed, on one of every 64 stretches of the float32 patterns."""
    names = {*_ELEMENTS, *(fmt.element.name for fmt in map(get_format, _BLOCKS) if isinstance(fmt, BlockFormat))}
    red = []
    for name in track(sorted(names), description="conformance", console=console, transient=True):
        fmt = get_format(name)
        assert isinstance(fmt, FloatFormat | IntFormat)
        if EncodeCase(fmt=fmt).check(stride=64).mismatches:
            red.append(name)
    if red:
        console.print(f"[red]encode disagrees with the oracle for {', '.join(red)}; nothing is measured")
    return not red


def _as_json(times: Times, copy: float) -> Json:
    return {
        "milliseconds": round(times.median * 1e3, 3),
        "ratio": round(times.median / copy, 2),
        "ratio_least": round(times.least / copy, 2),
        "ratio_greatest": round(times.greatest / copy, 2),
    }


def main() -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=64, help="size of the float32 tensor")
    parser.add_argument("--rounds", type=int, default=7, help="how often everything is timed")
    parser.add_argument("--json", type=Path, default=None, help="folder that speed.json is written to")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    arguments = parser.parse_args()
    console = Console(stderr=True, quiet=arguments.quiet)
    threads = torch.get_num_threads()
    if not _is_right(console):
        return 1
    # The check spreads chunks over threads of its own; a measurement uses those that PyTorch started with.
    torch.set_num_threads(threads)
    x = torch.randn(arguments.mebibytes * 256, 1024, generator=torch.Generator().manual_seed(0))
    into = torch.empty_like(x)
    table = Table("", "clone", "encode", "encode + decode", "ml_dtypes", "torchao", "bound", title="ratio to copy_")
    results: dict[str, Json] = {}
    has_passed = True
    rows = _rows(x)
    for (kind, name), functions in track(rows.items(), description="timing", console=console, transient=True):
        times = measure({"copy_": partial(into.copy_, x), "clone": x.clone, **functions}, rounds=arguments.rounds)
        copy = times.pop("copy_").median
        ratios = {who: f"{found.median / copy:.1f}" for who, found in times.items()}
        bound = _BOUNDS.get(kind)
        is_within = bound is None or times["incref"].median / copy <= bound
        has_passed = has_passed and is_within
        verdict = "" if bound is None else f"{bound:.0f}" if is_within else f"[red]{bound:.0f} missed"
        table.add_row(
            name,
            ratios["clone"],
            ratios["encode"],
            ratios["incref"],
            ratios.get("ml_dtypes", ""),
            ratios.get("torchao", ""),
            verdict,
        )
        results[name] = {who: _as_json(found, copy) for who, found in times.items()} | {
            "copy_milliseconds": round(copy * 1e3, 3)
        }
    Console().print(table)
    if arguments.json:
        peers: dict[str, Json] = dict(peer_versions())
        setting: Json = {"THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "0")}
        result: dict[str, Json] = {"environment": environment(), "setting": setting, "peers": peers, "rows": results}
        store("speed", f"float32, {arguments.mebibytes} MiB", result, arguments.json)
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())
