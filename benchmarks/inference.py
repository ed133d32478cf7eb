"""Speed of layers and of a whole language model by the backend "cpu", beside PyTorch's own products.

python -m benchmarks.inference [--rounds N] [--tokens N] [--json FILE]

Every time is a ratio to that of `torch.nn.functional.linear` in bfloat16 and in float32, taken in turn in one process.
SmolLM2-135M-Instruct then answers a question, token by token, in float32, in bfloat16 and with quantized weights.
Nothing is printed unless the kernels of both products pass the conformance suite at level 0 first.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.smollm2 import make_smollm2
from benchmarks.timing import Times, measure
from conformance.record import Json, environment
from incref.config.schemes import SCHEMES
from incref.conformance.implementation import Implementation
from incref.conformance.result import Status
from incref.conformance.run import run
from incref.workflow.quantize import quantize
from incref_kernels.cpu import BACKEND
from incref_kernels.cpu.processor import has_fast_bfloat16, multiplies_int8_exactly

__all__ = ["main"]

_SCHEMES = ("int4_g128", "int4_asym_g128", "int8", "fp8_e4m3", "mxfp4", "mxfp8_e4m3")
_SHAPES = ((1, 4096, 11008), (8, 4096, 4096), (512, 4096, 4096))
"""Rows of x, K and N."""

_MODEL = Path("build/smollm2")
_QUESTION = "What is the capital of France, and what is it known for?"
_GROUP = 128


def _layers(k: int, n: int, schemes: tuple[str, ...]) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layer = nn.Linear(k, n, bias=False)
    found: dict[str, nn.Module] = {}
    for scheme in schemes:
        model = nn.Sequential(nn.Linear(k, n, bias=False, device="meta"))
        model[0] = layer
        found[scheme] = quantize(model, SCHEMES[scheme], backend="cpu")
    return found


def _aten_int4(w: Tensor) -> Callable[[Tensor], Tensor] | str:
    """PyTorch's own product with 4-bit weights, whose sums and roundings are another operation's."""
    try:
        codes = torch.randint(0, 16, w.shape, dtype=torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)  # noqa: SLF001
        scales = torch.rand(w.shape[1] // _GROUP, w.shape[0], 2).to(torch.bfloat16)
    except (RuntimeError, AttributeError) as error:
        return str(error).splitlines()[0]
    return lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, _GROUP, scales)  # noqa: SLF001


def _time_layers(rounds: int) -> list[dict[str, Json]]:
    rows: list[dict[str, Json]] = []
    for m, k, n in _SHAPES:
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(n, k, generator=generator) * k**-0.5
        x = torch.randn(m, k, generator=generator)
        narrow_w, narrow_x = w.to(torch.bfloat16), x.to(torch.bfloat16)
        functions: dict[str, Callable[[], object]] = {
            "F.linear bfloat16": partial(F.linear, narrow_x, narrow_w),
            "F.linear float32": partial(F.linear, x, w),
        }
        for scheme, layer in _layers(k, n, _SCHEMES).items():
            functions[f"{scheme} float32"] = partial(layer, x)
            functions[f"{scheme} bfloat16"] = partial(layer, narrow_x)
        aten = _aten_int4(w) if m < _SHAPES[-1][0] else "too slow for many rows"
        if not isinstance(aten, str):
            functions["aten int4pack bfloat16"] = partial(aten, narrow_x)
        with torch.no_grad():
            times = measure(functions, rounds=rounds)
        row: dict[str, Json] = {"rows": m, "K": k, "N": n}
        rows.append({**row, "times": {name: _ratios(one, times) for name, one in times.items()}})
    return rows


def _ratios(one: Times, times: dict[str, Times]) -> Json:
    return {
        "milliseconds": one.median * 1e3,
        "least": one.least * 1e3,
        "greatest": one.greatest * 1e3,
        "times as fast as bfloat16": times["F.linear bfloat16"].median / one.median,
        "times as fast as float32": times["F.linear float32"].median / one.median,
    }


def _models() -> dict[str, Any]:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  # slow to import

    make_smollm2(_MODEL)

    def load(dtype: torch.dtype) -> Any:  # noqa: ANN401  # a model of transformers
        return AutoModelForCausalLM.from_pretrained(_MODEL, dtype=dtype, local_files_only=True).eval()

    return {
        "float32": load(torch.float32),
        "bfloat16": load(torch.bfloat16),
        "int4_g32 float32": quantize(load(torch.float32), SCHEMES["int4_g32"], backend="cpu"),
        "int4_g32 bfloat16": quantize(load(torch.bfloat16), SCHEMES["int4_g32"], backend="cpu"),
        "mxfp8_e4m3 float32": quantize(load(torch.float32), SCHEMES["mxfp8_e4m3"], backend="cpu"),
    }


def _generate(rounds: int, tokens: int) -> dict[str, Json]:
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(_MODEL, local_files_only=True)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": _QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    length = prompt["input_ids"].shape[1]
    models = _models()
    texts: dict[str, str] = {}
    seconds: dict[str, list[float]] = {name: [] for name in models}

    def generate(model: Any, count: int) -> Tensor:  # noqa: ANN401
        made: Tensor = model.generate(**prompt, do_sample=False, min_new_tokens=count, max_new_tokens=count)
        return made[0, length:]

    with torch.no_grad():
        for model in models.values():
            generate(model, 2)
        for _ in range(rounds):
            for name, model in models.items():
                start = time.perf_counter()
                made = generate(model, tokens)
                seconds[name].append(time.perf_counter() - start)
                texts[name] = tokenizer.decode(made, skip_special_tokens=True)
    found: dict[str, Json] = {}
    for name, times in seconds.items():
        median = sorted(times)[len(times) // 2]
        found[name] = {"tokens per second": tokens / median, "seconds": list(times), "text": texts[name]}
    return found


def _processor() -> dict[str, Json]:
    """What the processor lacks, and which figures say nothing for that."""
    vnni = "it has neither VNNI nor AMX, so the backend declines products of int8 and none are measured"
    narrow = "it has neither AMX nor AVX512-BF16, so products of bfloat16 are no faster than those of float32"
    return {
        "int8": None if multiplies_int8_exactly() else vnni,
        "bfloat16": None if has_fast_bfloat16() else narrow,
    }


def main() -> int:
    """Judge, measure, print, and store the results if asked."""
    parser = argparse.ArgumentParser(description="Speed of quantized layers and models on the processor.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if reason := BACKEND.why_unavailable():
        print(f"nothing to measure: {reason}", file=sys.stderr)
        return 1
    judged = run(Implementation.of_backend(BACKEND), level=0, ops=["weight_only_matmul", "int8_matmul"])
    if any(one.status not in (Status.PASS, Status.NOT_SUPPORTED) for one in judged.results):
        print("the kernels fail the conformance suite; nothing is measured", file=sys.stderr)
        return 1
    layers = _time_layers(arguments.rounds)
    generated = _generate(min(arguments.rounds, 3), arguments.tokens)
    for row in layers:
        times = row["times"]
        assert isinstance(times, dict)
        table = Table("product", "ms", "x bfloat16", "x float32", title=f"{row['rows']} rows, {row['K']} x {row['N']}")
        for name, one in times.items():
            assert isinstance(one, dict)
            milliseconds, _, _, narrow, wide = (float(str(value)) for value in one.values())
            table.add_row(name, f"{milliseconds:.2f}", f"{narrow:.2f}", f"{wide:.2f}")
        Console().print(table)
    for name, one in generated.items():
        assert isinstance(one, dict)
        Console().print(f"{name}: {one['tokens per second']:.1f} tokens a second: {one['text']}", highlight=False)
    processor = _processor()
    Console().print(*(f"{name}: {reason}" for name, reason in processor.items() if reason), sep="\n")
    if arguments.json is not None:
        place: dict[str, Json] = {**environment(), "threads": torch.get_num_threads(), "processor lacks": processor}
        result: dict[str, Json] = {"environment": place, "layers": list(layers), "generation": generated}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
