"""Compiled models of 8-bit integers by Neural Compressor, in a process and an environment of its own, beside incref's.

python -m benchmarks.model_peer --rounds N

The same lines quantize them, with another import, by the configuration that each has by default; both are calibrated
with the same data.
"""

import argparse
import json
import logging
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed_int8 import LACKS, Library, compiled_model, models
from benchmarks.speed_peer import ask_module
from benchmarks.speed_result import speedup_of
from benchmarks.timing import measure
from incref_kernels.cpu.processor import multiplies_int8_exactly

__all__ = ["ask_neural_compressor"]

_NAME = "neural-compressor-pt"


def ask_neural_compressor(environments: Path | None, rounds: int) -> "dict[str, Any] | str":
    """Time it in a process of its own.

    Args:
        environments: a directory with one for each library, made by `pip install --target`.
        rounds: how often each model is timed.

    Returns:
        Its version, and by model how many times as fast as float32 in eager mode it and incref are, and the signal to
        noise ratio of their outputs in dB; or why there is nothing.
    """
    packages = environments / _NAME if environments else None
    if packages is None or not packages.is_dir():
        return "not installed"
    if not multiplies_int8_exactly():
        return LACKS
    return ask_module("benchmarks.model_peer", packages, ["--rounds", str(rounds)])


def _neural_compressor() -> Library:
    quantization = import_module("neural_compressor.torch.quantization")
    return Library(
        export=import_module("neural_compressor.torch.export").export,
        prepare=quantization.prepare,
        convert=quantization.convert,
        config=quantization.StaticQuantConfig,
    )


def _decibels(signal: Tensor, noise: Tensor) -> float:
    return float(20 * torch.log10(signal.norm() / noise.norm()))


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    # What one library sets may make the graph of the other be compiled again, when it is called.
    torch._inductor.config.freezing = True  # noqa: SLF001  # the switch that PyTorch documents
    found: dict[str, Any] = {}
    libraries = {"incref": Library.own(), "peer": _neural_compressor()}
    with torch.no_grad():
        for name, model, x in models():
            want = model(x)
            compiled = {side: compiled_model(model, x, library) for side, library in libraries.items()}
            noise = {side: _decibels(want, run(x) - want) for side, run in compiled.items()}
            runs = {side: partial(run, x) for side, run in compiled.items()}
            times = measure({"float32": partial(model, x), **runs}, rounds=rounds)
            found[name] = {
                side: {"float32": speedup_of(times[side], times["float32"]).as_json(), "sqnr": round(noise[side], 1)}
                for side in libraries
            }
    print(json.dumps({"version": version(_NAME), "models": found}))


if __name__ == "__main__":
    _main()
