"""Speed of the Triton kernels, as a share of the bandwidth of a copy, beside the references compiled by Inductor.

python -m benchmarks.triton [--mebibytes 256] [--json FILE] [--tiles]

A kernel that moves b bytes in the time in which a copy moves c has the share b / c; beside it stands what a call costs
the host, and the time of torchao and of Triton's own kernels where they are installed. Nothing is printed of a kernel
that is not right: each is first compared with the oracle or the reference. Without a GPU the kernels are checked on the
CPU, and compiled for the target that is named: printed are the bytes that an element takes and the instructions that a
thread spends on it, which bound the time from below.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.device_timing import seconds_on_device, seconds_on_host, timed_peer
from benchmarks.triton_peers import peer_versions, peers_of_quantization
from conformance.aot.builds import Build
from conformance.aot.compile import compile_launch, launches_of
from conformance.aot.targets import TARGETS, AotTarget
from conformance.device_cases import BlocksCase, DeviceCase, ScaledCase, SweepCase, Where
from conformance.record import Json
from conformance.triton_l2 import environment_of_device, find_device
from incref.formats import FORMATS, BlockFormat, FloatFormat, NanRule, ScaleRule
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_group
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
from incref.ops.contract import Op
from incref.ops.encode import get_element_format
from incref_kernels.triton import BACKEND
from incref_kernels.triton.tiles import Tile

__all__ = ["main"]

_TILES = tuple(Tile(elements=elements, num_warps=warps) for elements in (2048, 4096, 8192) for warps in (1, 2, 4))

_FEW_ROWS = 128
"""Of the tensor that is so small that a call costs what the host takes to make it."""

_GRANULARITIES = {
    "per tensor": PER_TENSOR,
    "per token": PER_TOKEN,
    "1x128": per_group(128),
    "128x128": per_block((128, 128)),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One operation on one tensor.

    Attributes:
        name: of the row.
        op: the operation.
        args: its positional arguments.
        options: its others.
        guard: what has to be right before its time is taken.
    """

    name: str
    op: Op[..., object]
    args: tuple[object, ...]
    options: dict[str, object]
    guard: DeviceCase


def _tensors(value: object) -> Iterator[Tensor]:
    """Every tensor among arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)


def _bytes(*values: object) -> int:
    return sum(x.numel() * x.itemsize for x in _tensors(values))


def _is_wanted(only: Sequence[str], *names: str) -> bool:
    """Whether a name of a row has one of the strings that are asked for in it."""
    return any(part in name for part in only for name in names)


def _rows(x: Tensor, only: Sequence[str]) -> Iterator[Row]:
    for dtype in (torch.float32, torch.bfloat16):
        values, kind = x.to(dtype), str(dtype).removeprefix("torch.")
        for name in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"):
            fmt = FORMATS[name]
            assert isinstance(fmt, FloatFormat)
            if not _is_wanted(only, f"encode {name} from {kind}", f"decode {name} to {kind}"):
                continue
            options: dict[str, object] = {"nan": NanRule.MAX}
            guard = SweepCase(fmt=fmt)
            yield Row(name=f"encode {name} from {kind}", op=encode, args=(values, fmt), options=options, guard=guard)
            codes, to = encode(values, fmt, nan=NanRule.MAX), {"dtype": dtype}
            yield Row(name=f"decode {name} to {kind}", op=decode, args=(codes, fmt), options=dict(to), guard=guard)
        yield from _scaled_rows(values, kind, only)
        for name in ("mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4"):
            for axis in (-1, 0):
                yield from _block_rows(values, name, kind, axis, only)


def _scaled_rows(values: Tensor, kind: str, only: Sequence[str]) -> Iterator[Row]:
    fp8, int8 = get_element_format("float8_e4m3fn"), get_element_format("int8")
    for name, granularity in _GRANULARITIES.items():
        title = f"{kind} {name}"
        if not _is_wanted(only, *(f"{op}quantize_{how} {title}" for op in ("", "de") for how in ("float", "affine"))):
            continue
        options: dict[str, object] = {"granularity": granularity}
        given = {"granularity": granularity, "dtype": values.dtype}
        guard = ScaledCase(fmt=fp8, granularity=granularity, dtype=values.dtype)
        codes, scale = quantize_float.on(BACKEND)(values, fp8, granularity=granularity)
        yield Row(name=f"quantize_float {title}", op=quantize_float, args=(values, fp8), options=options, guard=guard)
        static = (values, fp8, scale)
        yield Row(name=f"quantize_float {title} static", op=quantize_float, args=static, options=options, guard=guard)
        back = (codes, scale, fp8)
        yield Row(name=f"dequantize_float {title}", op=dequantize_float, args=back, options=dict(given), guard=guard)
        guard = ScaledCase(fmt=int8, granularity=granularity, dtype=values.dtype)
        parts = quantize_affine.on(BACKEND)(values, int8, granularity=granularity, nan=NanRule.ZERO)
        options = options | {"nan": NanRule.ZERO}
        args = (values, int8)
        yield Row(name=f"quantize_affine {title}", op=quantize_affine, args=args, options=options, guard=guard)
        yield Row(name=f"dequantize_affine {title}", op=dequantize_affine, args=parts, options=given, guard=guard)


def _block_rows(values: Tensor, name: str, kind: str, axis: int, only: Sequence[str]) -> Iterator[Row]:
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    title = f"{name} {kind} axis {axis}"
    if not _is_wanted(only, f"quantize_mx {title}", f"dequantize_mx {title}"):
        return
    guard = BlocksCase(fmt=fmt, rule=None if fmt.has_tensor_scale else ScaleRule.FLOOR, dtype=values.dtype)
    parts = quantize_mx.on(BACKEND)(values, fmt, axis=axis)
    whole = parts[2] if len(parts) > 2 else None
    options: dict[str, object] = {"axis": axis}
    given = options | ({} if whole is None else {"tensor_scale": whole})
    yield Row(name=f"quantize_mx {title}", op=quantize_mx, args=(values, fmt), options=given, guard=guard)
    yield Row(
        name=f"dequantize_mx {title}",
        op=dequantize_mx,
        args=(parts[0], parts[1], fmt),
        options=given | {"dtype": values.dtype},
        guard=guard,
    )


def _measure(
    row: Row, small: Row, device: torch.device, options: argparse.Namespace, copy_rate: float
) -> dict[str, Json]:
    kernel = partial(row.op.on(BACKEND), *row.args, **row.options)
    moved = _bytes(row.args, tuple(row.options.values()), kernel())
    result: dict[str, Json] = {"bytes": moved}
    result |= _rate("triton", seconds_on_device([kernel], device, options.rounds), moved, copy_rate)
    call = partial(small.op.on(BACKEND), *small.args, **small.options)
    result["host_microseconds"] = round(seconds_on_host(call, device, options.rounds) * 1e6, 1)
    if options.tiles:
        shares: dict[str, Json] = {}
        for tile in _TILES:
            run = partial(BACKEND.kernels[row.op.name].fn, *row.args, **row.options, tile=tile)
            seconds = seconds_on_device([run], device, options.rounds)
            shares[f"{tile.elements}x{tile.num_warps}"] = round(moved / seconds / copy_rate, 3)
        result["tiles"] = shares
    if options.compiled:
        try:
            run = partial(torch.compile(row.op.reference, fullgraph=True, dynamic=False), *row.args, **row.options)
            result |= _rate("compiled", seconds_on_device([run], device, options.rounds), moved, copy_rate)
        except Exception as error:  # noqa: BLE001  # what the compiler can't do is a result too
            result["compiled_error"] = f"{type(error).__name__}: {error}"[:300]
    for library, run in peers_of_quantization(row.name, row.args, row.options):
        result |= timed_peer(library, run, device, options.rounds)
    return result


def _rate(who: str, seconds: float, moved: int, copy_rate: float) -> dict[str, Json]:
    rate = moved / seconds
    return {
        f"{who}_microseconds": round(seconds * 1e6, 1),
        f"{who}_gigabytes_per_second": round(rate / 1e9, 1),
        f"{who}_share_of_copy": round(rate / copy_rate, 3),
    }


def _predict(row: Row, target: AotTarget) -> dict[str, Json]:
    """Count what an element takes: bytes that are moved, and instructions of a thread, in the code for a target."""
    elements = next(_tensors(row.args)).numel()
    kernel = partial(row.op.on(BACKEND), *row.args, **row.options)
    moved = _bytes(row.args, tuple(row.options.values()), kernel())
    launches = launches_of(Build(name=row.name, call=kernel), target)
    spent = sum(
        compile_launch(one, target, products=None, is_streaming=True).instructions
        * int(str(one.options["num_warps"]))
        * one.programs
        for one in launches
    )
    return {
        "bytes_per_element": round(moved / elements, 3),
        "instructions_per_element": round(spent * target.gpu.warp_size / elements, 2),
        "launches": len(launches),
    }


def _wrong(row: Row, where: Where) -> str | None:
    """Say what is wrong with a kernel, or None."""
    finding = row.guard.check(where)
    return f"{finding.mismatches} mismatches; {finding.first}" if finding.mismatches else None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=float, default=256, help="size of the float32 tensor")
    parser.add_argument("--rounds", type=int, default=21, help="how often everything is timed")
    parser.add_argument("--json", type=Path, default=None, help="file that the results are written to")
    parser.add_argument("--tiles", action="store_true", help="time other tiles too")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names contain one of these")
    parser.add_argument(
        "--no-compiled", dest="compiled", action="store_false", help="leave out the compiled references"
    )
    parser.add_argument("--target", choices=[*TARGETS], default="sm_90", help="what is compiled for without a GPU")
    parser.add_argument("--chunk", type=int, default=1 << 24, help="patterns that the guard compares at once")
    parser.add_argument("--stride", type=int, default=16, help="the guard compares every n-th chunk")
    parser.add_argument("--scale", type=float, default=0.1, help="share of the usual number of blocks in the guard")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure, print; the exit status is 1 if a kernel was not right."""
    options = _options(arguments)
    device = find_device()
    where = Where(backend=BACKEND, device=device, chunk=options.chunk, stride=options.stride, scale=options.scale)
    columns = 4096 if options.mebibytes >= 1 else 64
    x = torch.randn(int(options.mebibytes * (1 << 18)) // columns, columns, device=device)
    into = torch.empty_like(x)
    copy_rate = 0.0
    if device.type == "cpu":
        print(f"compiled for {options.target}, not run there")
    else:
        copy_rate = 2 * _bytes(x) / seconds_on_device([partial(into.copy_, x)], device, options.rounds)
        print(f"copy of {options.mebibytes} MiB: {copy_rate / 1e9:.0f} GB/s on {environment_of_device()['device']}")
    rows: dict[str, Json] = {}
    is_red = False
    known: dict[str, str | None] = {}
    for row, small in zip(_rows(x, options.only), _rows(x[:_FEW_ROWS], options.only), strict=True):
        if not _is_wanted(options.only, row.name):
            continue
        if row.guard.key not in known:
            known[row.guard.key] = _wrong(row, where)
        if (wrong := known[row.guard.key]) is not None:
            is_red = True
            print(f"{row.name}: not right, so not timed: {wrong}")
            continue
        if device.type == "cpu":
            found = _predict(row, TARGETS[options.target])
        else:
            found = _measure(row, small, device, options, copy_rate)
        rows[row.name] = found
        print(f"{row.name}: {json.dumps(found)}", flush=True)
        if options.json:
            result = {
                "environment": environment_of_device() | peer_versions(),
                "target": options.target if device.type == "cpu" else None,
                "copy_gigabytes_per_second": copy_rate / 1e9,
                "rows": rows,
            }
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(is_red)


if __name__ == "__main__":
    sys.exit(main())
