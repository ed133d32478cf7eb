"""The casts of Gaudi, simulated or real, compared with the oracle on every bfloat16 and every code.

python -m conformance.hpu [--chips gaudi2 gaudi3] [--every 1]

On a machine without a Gaudi it simulates both chips and writes conformance/results/hpu.json. Where the operators of a
Gaudi are there, it asks those, judges what they answer for the chip that it is, and writes nothing unless told where.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from conformance.record import RESULTS, Json, environment, source_hash, store
from incref.conformance.implementation import Choice, Implementation
from incref.conformance.oracle_answers import ORACLE_ANSWERS
from incref.conformance.run import run
from incref.formats import FloatFormat, QuotientDtype, ScaleArithmetic
from incref.formats.gaudi import GAUDI
from incref.ops.dequantize_float import dequantize_float
from incref.ops.quantize_float import quantize_float
from incref_kernels.hpu import BACKEND
from incref_kernels.hpu.available import chip as chip_there
from incref_kernels.hpu.available import home
from incref_kernels.hpu.simulator.simulate import has_real_operators, simulate

__all__ = ["Check", "checks", "main"]

_ARBITRARY = (1.3, 0.1, 1 / 3, 0.0371, 23.0)
# The oracle takes a fifth of a millisecond for a product that is rounded; an odd step, so that all bits vary.
_ARBITRARY_STEP = 17
_NAMES = {"float8_e4m3": torch.float8_e4m3fn, "float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison.

    Attributes:
        key: its name in the results.
        inputs: how many are compared.
        compare: gives the number of mismatches.
    """

    key: str
    inputs: int
    compare: Callable[[], int]


def _inputs() -> Tensor:
    """Every bfloat16; infinities and NaN come first."""
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    return torch.cat([x[x.isinf()], x[x.isnan()], x[x.isfinite()]])


def _codes() -> Tensor:
    return torch.arange(256, dtype=torch.int32).to(torch.uint8)


def _mismatches(found: Tensor, right: Tensor) -> int:
    """How many differ, in any bit but those of a NaN."""
    if found.dtype is not right.dtype:
        return found.numel()
    integers = {2: torch.int16, 4: torch.int32}[found.itemsize]
    is_same = found.view(integers) == right.view(integers)
    return int((~(is_same | (found.isnan() & right.isnan()))).sum())


def _wrong_codes(fmt: FloatFormat, found: Tensor, right: Tensor) -> int:
    """How many differ, NaN having any of its codes."""
    are_nan = [ORACLE_ANSWERS["decode"](codes, fmt.name, dtype=torch.float32).isnan() for codes in (found, right)]
    return int(((found != right) & ~(are_nan[0] & are_nan[1])).sum())


def _cast(fmt: FloatFormat, scale: float, every: int) -> int:
    """`cast_to_fp8_v2` by an aligned scale: the exact quotient, rounded once."""
    x = _inputs()[::every]
    right = ORACLE_ANSWERS["encode"](x.to(torch.float64) / scale, fmt.name)
    found = torch.ops.hpu.cast_to_fp8_v2(x.to(home()), 1 / scale, False, False, _NAMES[fmt.name])[0]  # noqa: FBT003
    return _wrong_codes(fmt, found.view(torch.uint8).cpu(), right)


def _quantize(fmt: FloatFormat, scale: float, quotient: QuotientDtype, every: int) -> int:
    """`quantize_float` by any scale: rounded in the dtype of the input, or in float32, and then to a code."""
    x, factor = _inputs()[::every], torch.tensor(scale)
    options = {"arithmetic": ScaleArithmetic.RECIPROCAL, "quotient": quotient}
    right = ORACLE_ANSWERS["quantize_float"](x, fmt.name, factor, **options)[0]
    found = quantize_float.on(BACKEND)(x.to(home()), fmt, factor.to(home()), **options)[0]  # type: ignore[arg-type]
    return _wrong_codes(fmt, found.cpu(), right)


def _back(fmt: FloatFormat, scale: float, dtype: torch.dtype) -> int:
    """`dequantize_float` of every code."""
    codes, factor = _codes(), torch.tensor(scale)
    right = ORACLE_ANSWERS["dequantize_float"](codes, factor, fmt.name, dtype=dtype)
    found = dequantize_float.on(BACKEND)(codes.to(home()), factor.to(home()), fmt, dtype=dtype)
    return _mismatches(found.cpu(), right)


def _cast_back(fmt: FloatFormat, scale: float, dtype: torch.dtype) -> int:
    """`cast_from_fp8` of every code: a product in `dtype`, with the scale rounded to that."""
    codes, factor = _codes(), torch.tensor(scale)
    right = ORACLE_ANSWERS["dequantize_float"](codes, factor.to(dtype), fmt.name, dtype=dtype)
    found = torch.ops.hpu.cast_from_fp8(codes.to(home()).view(_NAMES[fmt.name]), factor.to(home()), dtype)
    return _mismatches(found.cpu(), right)


def checks(chip: str, *, every: int = 1) -> Iterator[Check]:
    """All comparisons of a chip; of the bfloat16 inputs `every` n-th, and by scales that are not aligned fewer."""
    formats = GAUDI[chip]
    inputs, some = len(_inputs()[::every]), every * _ARBITRARY_STEP
    for fmt in (formats.e4m3, formats.e5m2):
        aligned = formats.aligned_scales(fmt)
        for scale in aligned:
            name = f"{chip}/{fmt.name}/aligned/{scale!r}"
            yield Check(key=f"{name}/to", inputs=inputs, compare=partial(_cast, fmt, scale, every))
        for scale in _ARBITRARY:
            for quotient in QuotientDtype:
                name = f"{chip}/{fmt.name}/{quotient.value}/{scale!r}"
                compare = partial(_quantize, fmt, scale, quotient, some)
                yield Check(key=f"{name}/to", inputs=len(_inputs()[::some]), compare=compare)
        for scale in (*aligned, *_ARBITRARY):
            for dtype in (torch.float32, torch.bfloat16):
                name = f"{chip}/{fmt.name}/{str(dtype).removeprefix('torch.')}/{scale!r}"
                yield Check(key=f"{name}/from", inputs=256, compare=partial(_back, fmt, scale, dtype))
                yield Check(key=f"{name}/cast_from", inputs=256, compare=partial(_cast_back, fmt, scale, dtype))


def _contracts(level: int) -> dict[str, Json]:
    """The suite's own cases of every kernel, judged by the references; a NaN may have any code of the format's."""
    table = Implementation.of_backend(BACKEND).candidates.values()
    declared = [replace(one, choices=frozenset({Choice.ANY_NAN_CODE})) for one in table]
    outcome = run(Implementation.of(BACKEND.name, *declared), level=level, device=home())
    return {"verdict": outcome.verdict, **{status.value: count for status, count in outcome.counts.items()}}


def _run(chip: str, *, every: int, level: int) -> dict[str, Json]:
    begun = time.perf_counter()
    compared = wrong = 0
    first: str | None = None
    done = 0
    for check in checks(chip, every=every):
        mismatches = check.compare()
        compared, wrong, done = compared + check.inputs, wrong + mismatches, done + 1
        first = first or (check.key if mismatches else None)
    found: dict[str, Json] = {"checks": done, "compared": compared, "mismatches": wrong, "first": first}
    return {
        **found,
        "contracts": _contracts(level),
        "operators": "real" if has_real_operators() else "simulated",
        "seconds": round(time.perf_counter() - begun, 1),
        "environment": environment(),
        "sources": source_hash(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", choices=[*GAUDI], default=[*GAUDI], help="what is simulated")
    parser.add_argument("--every", type=int, default=1, help="compare every n-th bfloat16")
    parser.add_argument("--level", type=int, default=1, help="of the suite's cases")
    parser.add_argument("--results", type=Path, default=None, help="folder that the results are written to")
    options = parser.parse_args(arguments)
    is_real = has_real_operators()
    folder = options.results or (None if is_real or options.every > 1 else RESULTS)
    status = 0
    for chip in [chip_there()] if is_real else options.chips:
        with nullcontext() if is_real else simulate(chip):
            found = _run(chip, every=options.every, level=options.level)
        sys.stdout.write(f"{chip}: {found}\n")
        contracts = found["contracts"]
        assert isinstance(contracts, dict)
        status |= bool(found["mismatches"] or contracts["fail"] or contracts["error"])
        if folder is not None:
            store("hpu", chip, found, folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
