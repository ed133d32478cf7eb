"""Finds out how the tensor cores of a GPU add, and writes it down as JSON.

`python -m conformance.tensor_core_probe --out DIRECTORY` needs a CUDA device, PyTorch and Triton; with `--dry-run` it
probes models in their place, on any machine.
"""

import argparse
import json
import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from conformance.accumulators.infer import infer, model_of
from conformance.accumulators.machine import Machine, ModelMachine
from conformance.accumulators.replay import DISTRIBUTIONS, Sample, best_of, neighbours, replay, sample
from conformance.accumulators.specials import ask_specials
from conformance.record import Json, environment
from incref.formats import FORMATS, FloatFormat
from incref.numerics.accumulate.models import Accumulator, Aligned, Promoted

__all__ = ["Plan", "main", "probe"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a machine is probed.

    Attributes:
        machine: makes it.
        directed: whether the directed probes are of use: its results have all bits of float32.
        sizes: extents of the random products.
        guesses: names of plans before this one whose models are tried where there are no directed probes.
    """

    machine: Callable[[], Machine]
    directed: bool = True
    sizes: tuple[tuple[int, int], ...] = ((128, 64), (128, 512), (128, 2048))
    guesses: tuple[str, ...] = ()


def _fmt(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


E4M3, E5M2, FP16, BF16, TF32 = (_fmt(name) for name in ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "tf32"))
_DTYPES = {
    E4M3.name: torch.float8_e4m3fn,
    E5M2.name: torch.float8_e5m2,
    FP16.name: torch.float16,
    BF16.name: torch.bfloat16,
    TF32.name: torch.float32,
}
_KEPT = 64
_STORED = 24
_LARGE = ((128, 512), (128, 4096), (2048, 64), (2048, 512), (2048, 4096))


def scaled_plans() -> dict[str, Plan]:
    """`torch._scaled_mm`, each way."""
    from conformance.accumulators.torch_machines import ScaledMatmul  # noqa: PLC0415  # not needed for a dry run

    plans: dict[str, Plan] = {}

    def add(a: FloatFormat, b: FloatFormat, out: torch.dtype, *, is_fast: bool, is_row_wise: bool) -> None:
        speed, scales = "fast" if is_fast else "slow", "row" if is_row_wise else "tensor"
        name = f"scaled_mm {a.name} {b.name} {speed} {scales} {str(out).removeprefix('torch.')}"
        known = f"scaled_mm {a.name} {b.name} {speed} tensor float32"
        is_wide = out is torch.float32
        plans[name] = Plan(
            machine=lambda: ScaledMatmul(
                name=name,
                a_dtype=_DTYPES[a.name],
                b_dtype=_DTYPES[b.name],
                a_fmt=a,
                b_fmt=b,
                out_dtype=out,
                is_fast=is_fast,
                is_row_wise=is_row_wise,
            ),
            directed=is_wide,
            sizes=_LARGE if is_wide else _LARGE[1::3],
            guesses=(known,),
        )

    for is_fast in (True, False):
        add(E4M3, E4M3, torch.float32, is_fast=is_fast, is_row_wise=False)
        add(E5M2, E4M3, torch.float32, is_fast=is_fast, is_row_wise=False)
        add(E4M3, E4M3, torch.bfloat16, is_fast=is_fast, is_row_wise=False)
        add(E4M3, E4M3, torch.float32, is_fast=is_fast, is_row_wise=True)
        add(E4M3, E4M3, torch.bfloat16, is_fast=is_fast, is_row_wise=True)
    return plans


def triton_plans() -> dict[str, Plan]:
    """`tl.dot` of every format, by warp groups and by warps."""
    from conformance.accumulators.triton_dot import TritonDot  # noqa: PLC0415  # Triton is not needed for a dry run

    def plan(fmt: FloatFormat, name: str, **options: object) -> Plan:
        return Plan(
            machine=lambda: TritonDot(name=name, dtype=_DTYPES[fmt.name], a_fmt=fmt, b_fmt=fmt, **options)  # type: ignore[arg-type]
        )

    plans = {}
    for fmt in (E4M3, E5M2):
        for imprecise in (None, 128, 64, 32, 0):
            name = f"tl.dot {fmt.name} max_num_imprecise_acc={imprecise}"
            plans[name] = plan(fmt, name, imprecise=imprecise)
    for fmt, block_k, precision in ((FP16, 64, None), (BF16, 64, None), (TF32, 32, "tf32")):
        for warps in (4, 2):
            name = f"tl.dot {fmt.name} {warps} warps"
            plans[name] = plan(fmt, name, warps=warps, block_k=block_k, precision=precision)
    return plans


def wide_plans() -> dict[str, Plan]:
    """`torch.mm` of 16 bits and of TF32, to float32."""
    from conformance.accumulators.torch_machines import WideMatmul  # noqa: PLC0415  # not needed for a dry run

    def plan(fmt: FloatFormat, name: str) -> Plan:
        return Plan(
            machine=lambda: WideMatmul(name=name, dtype=_DTYPES[fmt.name], a_fmt=fmt, b_fmt=fmt), sizes=_LARGE[:4]
        )

    return {f"mm {fmt.name}": plan(fmt, f"mm {fmt.name}") for fmt in (FP16, BF16, TF32)}


def dry_plans() -> dict[str, Plan]:
    """Models in the place of machines."""
    narrow = Aligned(group=32, fraction_bits=13, result_bits=13)
    wide = Aligned(group=16, fraction_bits=25, result_bits=23)

    def plan(name: str, fmt: FloatFormat, model: Accumulator) -> Plan:
        return Plan(
            machine=lambda: ModelMachine(name=name, a_fmt=fmt, b_fmt=fmt, model=model, takes_carried=True),
            sizes=((64, 64), (64, 512)),
        )

    rows = {"fast": (E4M3, narrow), "slow": (E4M3, Promoted(inner=narrow, every=128)), "half": (FP16, wide)}
    return {name: plan(name, *row) for name, row in rows.items()}


def probe(plan: Plan, known: dict[str, Accumulator], samples: dict[str, Sample]) -> dict[str, Json]:
    """Probe one machine.

    Args:
        plan: what to do.
        known: models that were found before, by the name of their plan; what is found is added.
        samples: where random products are put, by name.

    Returns:
        What was found, and how often the model gave the machine's bits.
    """
    machine = plan.machine()
    found = infer(machine) if plan.directed else None
    model = None if found is None else model_of(found)
    guesses = [known[name] for name in plan.guesses if name in known]
    described: dict[str, Json] = {
        "findings": None if found is None else _plain(found),
        "model": None if model is None else _plain(model),
        "specials": _plain(ask_specials(machine, model)),
    }
    replays: list[Json] = []
    for size, length in plan.sizes:
        for seed, kind in enumerate(DISTRIBUTIONS):
            data = sample(machine, kind, size, length, kept=_KEPT, seed=1000 * length + seed)
            replays.append(_replayed(data, machine, model, guesses))
            if (kind, length) == (DISTRIBUTIONS[0], 512):
                samples[f"{machine.name}: {data.label}"] = data.corner(_STORED)
    if model is not None:
        known[machine.name] = model
    described["replays"] = replays
    if assembly := getattr(machine, "assembly", ""):
        described["instructions"] = sorted(set(re.findall(r"\w*mma[\w.]*\.aligned\.[\w.]+", assembly)))
    return described


def _replayed(data: Sample, machine: Machine, model: Accumulator | None, guesses: list[Accumulator]) -> Json:
    """Replay the model; if it is not right everywhere, look among others and say which comes closest.

    The guesses are tried first, the neighbours of the model if none of them is right. What is found is one more guess.
    """
    entry: dict[str, Json] = {"label": data.label}
    if model is not None:
        seen = replay(data, machine, model)
        entry |= {"outputs": seen.outputs, "equal": seen.equal, "first": _plain(seen.first)}
        if seen.equal == seen.outputs:
            return entry
    base = model or next(iter(guesses), Aligned(group=32, fraction_bits=13, result_bits=13))
    best, closest = best_of(data, machine, [base, *guesses])
    if closest.equal < closest.outputs:
        best, closest = best_of(data, machine, [best, *neighbours(base, data.a.shape[1])])
    if best not in guesses:
        guesses.append(best)
    found = {"model": best, "outputs": closest.outputs, "equal": closest.equal, "first": closest.first}
    return {**entry, "best": _plain(found)}


def int8_overflow(multiply: Callable[[Tensor, Tensor], Tensor]) -> Json:
    """What sums of int8 products beyond int32 become: 2**31 by equal products, and by one more."""
    length = (1 << 17) + 128
    a, b = torch.zeros(64, length, dtype=torch.int8), torch.zeros(64, length, dtype=torch.int8)
    a[:, : 1 << 17], b[:, : 1 << 17] = -128, -128
    a[1, -1], b[1, -1] = 1, 1
    a[2] = -a[2].clamp(min=-127)
    got = multiply(a, b)
    return {
        "2**31": int(got[0, 0]),
        "2**31 + 1": int(got[1, 1]),
        "-127 * 128 * 2**17, not beyond": int(got[2, 0]),
    }


def int8_report() -> dict[str, Json]:
    """Ask every int8 product."""
    from conformance.accumulators.triton_dot import launch  # noqa: PLC0415  # Triton is not needed for a dry run

    def by_triton(warps: int) -> Callable[[Tensor, Tensor], Tensor]:
        def multiply(a: Tensor, b: Tensor) -> Tensor:
            options = {"imprecise": None, "precision": None, "warps": warps, "block_k": 128}
            return launch(a.cuda(), b.cuda(), None, **options)[0].cpu()  # type: ignore[arg-type]

        return multiply

    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "_int_mm": lambda a, b: torch._int_mm(a.cuda(), b.cuda().t()).cpu(),  # noqa: SLF001  # no public name
        "tl.dot 4 warps": by_triton(4),
        "tl.dot 2 warps": by_triton(2),
    }
    return {name: _guarded(lambda way=way: int8_overflow(way)) for name, way in ways.items()}


def epilogue_report() -> dict[str, Json]:
    """Which order of products with scales, no powers of two, gives the bits of `torch._scaled_mm`."""
    from conformance.accumulators.torch_machines import ScaledMatmul  # noqa: PLC0415  # not needed for a dry run

    report: dict[str, Json] = {}
    for is_row_wise in (False, True):
        for out in (torch.float32, torch.bfloat16):
            name = f"{'row' if is_row_wise else 'tensor'} {str(out).removeprefix('torch.')}"

            def compare(is_row_wise: bool = is_row_wise, out: torch.dtype = out) -> Json:  # noqa: FBT001
                common = {"a_dtype": torch.float8_e4m3fn, "b_dtype": torch.float8_e4m3fn, "a_fmt": E4M3, "b_fmt": E4M3}
                options = {**common, "is_fast": True}
                plain = ScaledMatmul(name="plain", out_dtype=torch.float32, **options)  # type: ignore[arg-type]
                scaled = ScaledMatmul(  # type: ignore[arg-type]
                    name="scaled", out_dtype=out, is_row_wise=is_row_wise, scale_a=0.3, scale_b=1.7, **options
                )
                acc = sample(plain, "normal", 256, 512, kept=256, seed=5).got
                got = sample(scaled, "normal", 256, 512, kept=256, seed=5).got
                a, b = torch.tensor(0.3), torch.tensor(1.7)
                ways = {"acc * (a * b)": acc * (a * b), "(acc * a) * b": acc * a * b, "(acc * b) * a": acc * b * a}
                exact = (acc.double() * a.double() * b.double()).to(torch.float32)
                ways["acc * a * b, rounded once"] = exact
                return {way: float((x.to(out).float() == got).double().mean()) for way, x in ways.items()}

            report[name] = _guarded(compare)
    return report


def _guarded(task: Callable[[], Json]) -> Json:
    """Run a part of the report; what it raises is written down in its place, so that the other parts are not lost."""
    try:
        return task()
    except Exception:  # noqa: BLE001  # a library may raise anything
        return {"error": traceback.format_exc(limit=4)}


def _plain(value: object) -> Json:
    """Reduce dataclasses and enums to what JSON has."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Enum():
            return str(value.value)
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _ if is_dataclass(value):
            described = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
            return {"kind": type(value).__name__, **described}
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")


def describe_device() -> dict[str, Json]:
    """What was probed with what."""
    found = environment()
    if torch.cuda.is_available():
        found |= {
            "device": torch.cuda.get_device_name(),
            "capability": list(torch.cuda.get_device_capability()),
            "cuda": torch.version.cuda,
            "triton": version("triton"),
        }
    return found


def summarize(name: str, entry: Json) -> Iterable[str]:
    """Say in a few lines what was found of a machine."""
    assert isinstance(entry, dict)
    if "error" in entry:
        yield f"{name}: {str(entry['error']).strip().splitlines()[-1]}"
        return
    yield f"{name}: {entry['model']}"
    replays = entry["replays"]
    assert isinstance(replays, list)
    for seen in replays:
        assert isinstance(seen, dict)
        best = seen.get("best")
        shown = f" best {best['equal']}/{best['outputs']} {best['model']}" if isinstance(best, dict) else ""
        yield f"  {seen['label']}: {seen.get('equal')}/{seen.get('outputs')}{shown}"


def main(arguments: list[str] | None = None) -> int:
    """Probe everything; the result is 0 if every part gave an answer, 1 if one raised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for probe.json and samples.pt")
    parser.add_argument("--dry-run", action="store_true", help="probe models instead of a GPU")
    parser.add_argument("--only", default="", help="probe only the machines whose names match this expression")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Json] = {"environment": describe_device(), "machines": {}}
    known: dict[str, Accumulator] = {}
    samples: dict[str, Sample] = {}
    plans = dry_plans() if options.dry_run else {**triton_plans(), **scaled_plans(), **wide_plans()}
    machines: dict[str, Json] = {}
    report["machines"] = machines
    for name, plan in plans.items():
        if not re.search(options.only, name):
            continue
        begun = time.perf_counter()
        machines[name] = _guarded(lambda plan=plan: probe(plan, known, samples))
        print(*summarize(name, machines[name]), f"  {time.perf_counter() - begun:.1f} s", sep="\n", flush=True)  # noqa: T201
        (options.out / "probe.json").write_text(json.dumps(report, indent=1))
    if not options.dry_run:
        report |= {"int8": _guarded(int8_report), "epilogue": _guarded(epilogue_report)}
        print(json.dumps({key: report[key] for key in ("int8", "epilogue")}, indent=1))  # noqa: T201
    (options.out / "probe.json").write_text(json.dumps(report, indent=1))
    torch.save({name: asdict(data) for name, data in samples.items()}, options.out / "samples.pt")
    return int('"error"' in json.dumps(report))


if __name__ == "__main__":
    raise SystemExit(main())
