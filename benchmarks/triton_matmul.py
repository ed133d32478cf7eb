"""Speed of the Triton matrix products, as shares of what PyTorch's own reach on the same device.

python -m benchmarks.triton_matmul [--json FILE] [--tiles] [--only NAMES]

Peaks are the rates of large products: `torch.matmul` of bfloat16, `torch._scaled_mm` of FP8, `torch._int_mm`. Where few
rows meet a weight, its bytes are what costs time; so it is read from memory, not from the cache, by taking turns with
copies. Nothing is printed of a kernel that is not right: each is first judged by probes and bounds, with the tile that
is timed.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.device_timing import seconds_on_device, timed_peer
from benchmarks.triton_peers import peer_versions, peers_of_product
from conformance.device_cases import DeviceCase, Where
from conformance.matmul_cases import Fp8MatmulCase, Int8MatmulCase, MatmulShape, MxMatmulCase, WeightOnlyCase
from conformance.record import Json
from conformance.triton_l2 import environment_of_device, find_device
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group
from incref.ops import encode, pack
from incref_kernels.triton import BACKEND
from incref_kernels.triton.matmul_tiles import MatmulTile

__all__ = ["main"]

_CACHE_BYTES = 128 << 20
_MOST_COPIES = 16


@dataclass(frozen=True, kw_only=True)
class Row:
    """One product.

    Attributes:
        name: of the row.
        op: name of the operation.
        rows: M.
        size: N and K.
        peak: whose rate is 1.
        guard: what has to be right before its time is taken; its shape has the tile.
        make: makes the arguments: positional ones, of which the second is the weight, and the others.
        tiles: other tiles to try.
    """

    name: str
    op: str
    rows: int
    size: int
    peak: str
    guard: DeviceCase
    make: Callable[[int, int, torch.device], tuple[list[object], dict[str, object]]]
    tiles: tuple[MatmulTile, ...] = ()


def _codes(rows: int, columns: int, device: torch.device, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Random codes; of FP8 none is NaN, since the highest bit below the sign is 0."""
    codes = torch.randint(0, 256, (rows, columns), device=device, dtype=torch.uint8)
    return codes.view(torch.int8) if dtype is torch.int8 else codes & 0xBF


def _scales(granularity: Granularity, shape: tuple[int, int], device: torch.device) -> Tensor:
    return torch.rand(granularity.scale_shape(shape), device=device) + 0.5


def _int8(rows: int, size: int, device: torch.device) -> tuple[list[object], dict[str, object]]:
    shapes = ((rows, size), (size, size))
    codes = [_codes(*shape, device, torch.int8) for shape in shapes]
    scales = [_scales(PER_TOKEN, shape, device) for shape in shapes]
    return [*codes, *scales], {"x_granularity": PER_TOKEN, "w_granularity": PER_TOKEN, "dtype": torch.bfloat16}


def _fp8(
    x_granularity: Granularity, w_granularity: Granularity, rows: int, size: int, device: torch.device
) -> tuple[list[object], dict[str, object]]:
    options: dict[str, object] = {"x_fmt": "float8_e4m3fn", "w_fmt": "float8_e4m3fn", "dtype": torch.bfloat16}
    options |= {"x_granularity": x_granularity, "w_granularity": w_granularity}
    x, w = _codes(rows, size, device), _codes(size, size, device)
    return [x, w, _scales(x_granularity, (rows, size), device), _scales(w_granularity, (size, size), device)], options


def _weight_only(fmt: str, rows: int, size: int, device: torch.device) -> tuple[list[object], dict[str, object]]:
    x = torch.randn(rows, size, device=device, dtype=torch.bfloat16)
    if fmt == "uint4":
        codes = pack(_codes(size, size, device) & 15, fmt, layout=PackLayout.BYTES)
        scale = _scales(per_group(128), (size, size), device)
        zero = torch.full(scale.shape, 8, dtype=torch.int32, device=device)
        return [x, codes, scale, fmt, zero], {"granularity": per_group(128), "packed": PackLayout.BYTES}
    if fmt == "mxfp4":
        codes = pack(_codes(size, size, device) & 15, fmt, layout=PackLayout.BYTES)
        return [x, codes, _exponents(size, size, 32, device), fmt], {"packed": PackLayout.BYTES}
    w = _codes(size, size, device, torch.int8 if fmt == "int8" else torch.uint8)
    return [x, w, _scales(PER_TOKEN, (size, size), device), fmt], {"granularity": PER_TOKEN}


def _exponents(rows: int, size: int, block: int, device: torch.device) -> Tensor:
    return torch.randint(120, 132, (rows, size // block), device=device, dtype=torch.uint8)


def _mx(x_fmt: str, w_fmt: str, rows: int, size: int, device: torch.device) -> tuple[list[object], dict[str, object]]:
    options: dict[str, object] = {"x_fmt": x_fmt, "w_fmt": w_fmt, "dtype": torch.bfloat16}
    codes, scales = [], []
    for name, fmt, count in (("x", x_fmt, rows), ("w", w_fmt, size)):
        made = _codes(count, size, device)
        codes.append(made & 15 if fmt.endswith("fp4") else made)
        scales.append(_exponents(count, size, 32, device))
        if fmt == "nvfp4":
            scales[-1] = torch.randint(48, 64, (count, size // 16), device=device, dtype=torch.uint8)
            options[f"{name}_tensor_scale"] = torch.tensor(0.5, device=device)
    return [*codes, *scales], options


def _tiles(*sizes: tuple[int, int, int, int, int], is_transposed: bool = False) -> tuple[MatmulTile, ...]:
    return tuple(
        MatmulTile(block_m=m, block_n=n, block_k=k, num_warps=warps, num_stages=stages, is_transposed=is_transposed)
        for m, n, k, warps, stages in sizes
    )


_TILES = {
    "fp8_matmul": _tiles((64, 128, 128, 4, 4), (128, 128, 128, 4, 3), (128, 128, 128, 8, 4), (256, 128, 128, 8, 3)),
    "weight_only_matmul": _tiles((128, 256, 64, 8, 3), (256, 128, 64, 8, 3), is_transposed=True),
    "mx_matmul": _tiles((128, 256, 64, 8, 4), (128, 128, 64, 4, 4), (256, 128, 64, 8, 3), is_transposed=True),
}
"""Tiles to try beside those that kernels choose for many rows."""

_LARGE_GUARD = MatmulShape(rows=256, columns=256, length=256)
_FEW_GUARD = MatmulShape(rows=16, columns=256, length=512)


def _rows() -> Iterator[Row]:
    scales = {
        "tensor": (PER_TENSOR, PER_TENSOR),
        "row": (PER_TOKEN, PER_TOKEN),
        "1x128 128x128": (per_group(128), per_block((128, 128))),
    }
    for rows, size, guard in ((4096, 4096, _LARGE_GUARD), (16, 8192, _FEW_GUARD)):
        is_large = rows > _FEW_GUARD.rows
        yield Row(
            name=f"int8_matmul {rows}",
            op="int8_matmul",
            rows=rows,
            size=size,
            peak="int8",
            guard=Int8MatmulCase(shape=guard, dtype=torch.bfloat16),
            make=_int8,
        )
        for name, (left, right) in scales.items():
            yield Row(
                name=f"fp8_matmul {name} {rows}",
                op="fp8_matmul",
                rows=rows,
                size=size,
                peak="fp8",
                guard=Fp8MatmulCase(shape=guard, x_granularity=left, w_granularity=right, dtype=torch.bfloat16),
                make=partial(_fp8, left, right),
                tiles=_TILES["fp8_matmul"] if is_large else (),
            )
        for fmt, granularity, packed in (
            ("uint4", per_group(128), PackLayout.BYTES),
            ("mxfp4", PER_TENSOR, PackLayout.BYTES),
            ("int8", PER_TOKEN, None),
        ):
            yield Row(
                name=f"weight_only_matmul {fmt} {rows}",
                op="weight_only_matmul",
                rows=rows,
                size=size,
                peak="bfloat16",
                guard=WeightOnlyCase(shape=guard, fmt=fmt, granularity=granularity, packed=packed),
                make=partial(_weight_only, fmt),
                tiles=_TILES["weight_only_matmul"] if is_large else (),
            )
        for x_fmt, w_fmt in (("mxfp8_e4m3", "mxfp8_e4m3"), ("mxfp8_e4m3", "mxfp4"), ("nvfp4", "nvfp4")):
            yield Row(
                name=f"mx_matmul {x_fmt} {w_fmt} {rows}",
                op="mx_matmul",
                rows=rows,
                size=size,
                peak="bfloat16",
                guard=MxMatmulCase(shape=guard, x_fmt=x_fmt, w_fmt=w_fmt, dtype=torch.bfloat16),
                make=partial(_mx, x_fmt, w_fmt),
                tiles=_TILES["mx_matmul"] if is_large else (),
            )


def _with_tile(row: Row, tile: MatmulTile | None) -> DeviceCase:
    guard = row.guard
    assert isinstance(guard, Int8MatmulCase | Fp8MatmulCase | WeightOnlyCase | MxMatmulCase)
    return guard if tile is None else replace(guard, shape=replace(guard.shape, options=(("tile", tile),)))


def _wrong(row_name: str, tile: MatmulTile | None) -> str | None:
    """Say what is wrong with a kernel, or None; it is compiled for the process that times it, too."""
    row = next(row for row in _rows() if row.name == row_name)
    where = Where(backend=BACKEND, device=find_device(), chunk=1)
    try:
        finding = _with_tile(row, tile).check(where)
        run, _ = _calls(row, tile, where.device)
        run[0]()
    except Exception as error:  # noqa: BLE001  # a kernel that fails must not hide what the others do
        return f"{type(error).__name__}: {error}"[:400]
    return f"{finding.mismatches} mismatches; {finding.first}" if finding.mismatches else None


def _calls(row: Row, tile: MatmulTile | None, device: torch.device) -> tuple[list[Callable[[], object]], int]:
    """Calls that take turns with copies of the weight, and the bytes of one."""
    args, options = row.make(row.rows, row.size, device)
    x, weight, *rest = args
    assert isinstance(x, Tensor)
    assert isinstance(weight, Tensor)
    size = weight.numel() * weight.itemsize
    copies = 1 if row.rows > _FEW_GUARD.rows else min(_MOST_COPIES, -(-_CACHE_BYTES // size) + 1)
    given = options if tile is None else options | {"tile": tile}
    kernel = BACKEND.kernels[row.op].fn
    return [partial(kernel, x, weight.clone(), *rest, **given) for _ in range(copies)], size


def _peaks(device: torch.device, rounds: int, size: int) -> dict[str, float]:
    """Rates of PyTorch's own products, in operations a second."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    one = torch.ones((), device=device)
    fp8 = [encode(x, "float8_e4m3fn").view(torch.float8_e4m3fn) for x in (a, b)]
    int8 = [x.to(torch.int8) for x in (a, b)]
    functions: dict[str, Callable[[], object]] = {
        "bfloat16": lambda: a @ b.T,
        "fp8": lambda: torch._scaled_mm(fp8[0], fp8[1].T, one, one, out_dtype=torch.bfloat16),  # noqa: SLF001
        "int8": lambda: torch._int_mm(int8[0], int8[1].T),  # noqa: SLF001
    }
    work = 2 * size**3
    return {name: work / seconds_on_device([function], device, rounds) for name, function in functions.items()}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="file that the results are written to")
    parser.add_argument("--rounds", type=int, default=15, help="how often everything is timed")
    parser.add_argument("--tiles", action="store_true", help="time other tiles too")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names contain one of these")
    parser.add_argument("--workers", type=int, default=8, help="processes that judge and compile; 0 for none")
    parser.add_argument("--seconds", type=float, default=90.0, help="no timing is begun later than that")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, measure, print; the exit status is 1 if a kernel was not right."""
    options = _options(arguments)
    begun, device = time.time(), find_device()
    rows = [row for row in _rows() if any(part in row.name for part in options.only)]
    jobs = [(row, tile) for row in rows for tile in ((None, *row.tiles) if options.tiles else (None,))]
    wrong = _judge_all(jobs, options.workers)
    peaks = _peaks(device, options.rounds, 8192 if device.type == "cuda" else 64)
    print(json.dumps({name: round(rate / 1e12, 1) for name, rate in peaks.items()}), f"{time.time() - begun:.0f} s")
    results: dict[str, Json] = {}
    for (row, tile), reason in zip(jobs, wrong, strict=True):
        title = row.name if tile is None else f"{row.name} {_title(tile)}"
        if reason is not None:
            print(f"{title}: not right, so not timed: {reason}")
            results[title] = {"error": reason}
        elif time.time() - begun > options.seconds:
            results[title] = {"skipped": "out of time"}
        else:
            calls, size = _calls(row, tile, device)
            seconds = seconds_on_device(calls, device, options.rounds)
            rate = 2 * row.rows * row.size**2 / seconds
            results[title] = {
                "microseconds": round(seconds * 1e6, 1),
                "teraops_per_second": round(rate / 1e12, 1),
                "share_of_peak": round(rate / peaks[row.peak], 3),
                "weight_gigabytes_per_second": round(size / seconds / 1e9, 1),
            }
            if tile is None:
                args, _ = row.make(row.rows, row.size, device)
                for library, run in peers_of_product(row.name, args):
                    results[title] |= timed_peer(library, run, device, options.rounds)
            print(f"{title}: {json.dumps(results[title])}", flush=True)
    if options.json:
        found = {"environment": environment_of_device() | peer_versions(), "peaks": dict(peaks), "rows": results}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{time.time() - begun:.0f} s")
    return int(any(reason is not None for reason in wrong))


def _judge_all(jobs: Sequence[tuple[Row, MatmulTile | None]], workers: int) -> list[str | None]:
    names, tiles = [row.name for row, _ in jobs], [tile for _, tile in jobs]
    if not workers:
        return [_wrong(name, tile) for name, tile in zip(names, tiles, strict=True)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(_wrong, names, tiles))


def _title(tile: MatmulTile) -> str:
    return f"{tile.block_m}x{tile.block_n}x{tile.block_k} {tile.num_warps} warps {tile.num_stages} stages"


if __name__ == "__main__":
    sys.exit(main())
