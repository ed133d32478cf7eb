"""Products, GPTQ, a whole model and the import beside what PyTorch or other libraries take for the same."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.gptq_speed import compare
from benchmarks.smollm2 import make_smollm2
from benchmarks.speed_result import Better, Judged, Ratio, not_measured, ratio_of, speedup_of
from benchmarks.timing import Times, measure
from incref.config.schemes import SCHEMES
from incref.workflow.quantize import quantize

__all__ = ["forward_row", "gptq_row", "import_rows", "product_rows"]

_TOKENS = 512
_MODEL = Path("build/smollm2")
_SCHEME = "int4_g128"
# Errors of the same options differ by their last digits.
_NEARLY = 0.999
_SECONDS = {"ratio": "seconds", "least": "least", "greatest": "greatest"}


def import_rows(rounds: int) -> list[Judged]:
    """Imports in new processes, in turn with one of PyTorch, all from compiled files."""
    statements = {"torch": "import torch", "incref": "import incref", "quantize": "from incref import quantize"}
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    # The first round compiles.
    for number in range(rounds + 1):
        for name, statement in statements.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], env=environment, check=True)  # noqa: S603  # this program
            if number:
                seconds[name].append(time.perf_counter() - start)
    times = {
        name: Times(median=statistics.median(one), least=min(one), greatest=max(one)) for name, one in seconds.items()
    }
    works = {"incref": "import incref", "quantize": "from incref import quantize"}
    return [
        Judged(
            work=work,
            base="import torch",
            better=Better.LESS,
            bar=1.1,
            stretch=1.05,
            found=ratio_of(times[name], times["torch"]),
        )
        for name, work in works.items()
    ]


def forward_row(rounds: int) -> Judged:
    """A forward pass of SmolLM2 that emulates MXFP8, weights quantized once, beside one in float32."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  # slow to import

    make_smollm2(_MODEL)

    def load() -> Any:  # noqa: ANN401  # a model of transformers
        return AutoModelForCausalLM.from_pretrained(_MODEL, dtype=torch.float32, local_files_only=True).eval()

    plain, emulated = load(), quantize(load(), SCHEMES["mxfp8_e4m3_w8a8"], backend="cpu")
    tokens = torch.randint(0, plain.config.vocab_size, (1, _TOKENS), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        times = measure({"float32": partial(plain, tokens), "MXFP8": partial(emulated, tokens)}, rounds=rounds)
    return Judged(
        work=f"SmolLM2 with weights and inputs in MXFP8, {_TOKENS} tokens",
        base="float32",
        better=Better.LESS,
        bar=1.35,
        stretch=1.15,
        found=ratio_of(times["MXFP8"], times["float32"]),
    )


def product_rows(rounds: int) -> list[Judged]:
    """Weights of 4 bits: one row of x, and many."""
    found = []
    for m, k, n, name, bar, stretch in ((1, 4096, 11008, "decode", 3.0, 5.9), (512, 4096, 4096, "prefill", 0.93, 1.5)):
        layer = nn.Linear(k, n, bias=False)
        x, w = torch.randn(m, k), layer.weight.detach().clone()
        narrow_x, narrow_w = x.to(torch.bfloat16), w.to(torch.bfloat16)
        quantized = quantize(nn.Sequential(layer), SCHEMES[_SCHEME], backend="cpu")
        with torch.no_grad():
            times = measure(
                {
                    "float32": partial(quantized, x),
                    "bfloat16": partial(quantized, narrow_x),
                    "linear": partial(F.linear, narrow_x, narrow_w),
                    "wide linear": partial(F.linear, x, w),
                },
                rounds=rounds,
            )
        row = Judged(
            work=f"{name} with int4 weights, {m} x {k} x {n}",
            base="bfloat16 F.linear",
            better=Better.MORE,
            bar=bar,
            stretch=stretch,
        )
        for dtype in ("bfloat16", "float32"):
            ratio = speedup_of(times[dtype], times["linear"])
            found.append(replace(row, work=f"{row.work}, {dtype} inputs", found=ratio))
        # What a processor without instructions for bfloat16 compares with.
        ratio = speedup_of(times["float32"], times["wide linear"])
        found.append(replace(row, work=f"{row.work}, float32 inputs", base="float32 F.linear", found=ratio))
    return found


def gptq_row(environments: Path | None, rounds: int, size: int = 4096, rows: int = 16384) -> Judged:
    """GPTQ of a layer beside the fastest of the libraries whose error is no lower."""
    row = Judged(
        work=f"GPTQ of a layer of {size} x {size}, {rows} rows, int4, groups of 128",
        base="the fastest library whose error is no lower",
        better=Better.LESS,
        bar=0.45,
        stretch=0.3,
    )
    if environments is None:
        return not_measured("no other library is there", row)[0]
    found: dict[str, Any] = compare(environments, size=size, rows=rows, rounds=rounds)
    own = found.pop("incref")
    measured = {name: one for name, one in found.items() if "seconds" in one}
    seconds = {name: one["seconds"] for name, one in measured.items() if one["error"] >= own["error"] * _NEARLY}
    if "seconds" not in own or not seconds:
        return not_measured("no other library gave a result", row)[0]
    name = min(seconds, key=lambda one: float(seconds[one]))
    ratio = Ratio(**{to: own[what] / seconds[name] for to, what in _SECONDS.items()})
    return replace(row, base=f"{name} {found[name]['version']}", found=ratio)
