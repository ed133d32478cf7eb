"""Time that GPTQ takes for a whole model, SmolLM2-135M-Instruct, beside that of other libraries with the same data.

python -m benchmarks.gptq_model ENVIRONMENTS [--sequences N] [--rounds N] [--json FILE]

ENVIRONMENTS is that of `benchmarks.gptq_peers`. incref is measured as it is by default, and with the settings that take
the least time: one pass of the blocks, and calls that are only recorded. All take turns, each in a process of its own,
which loads the model in float32 and is timed from then on until all layers of its blocks are quantized: to 4 bits, in
groups of 64, symmetric, columns in the order given. The data are sequences of 512 tokens of Python's own documentation.
The error is that of the logits of four sequences that follow, relative to what they were, as a quotient of squares.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.smollm2 import make_smollm2
from conformance.record import Json, environment

__all__ = ["compare", "main"]

_ROOT = Path(__file__).parent.parent
_MODEL = _ROOT / "build/smollm2"
_DEFAULT, _ONE_PASS = "incref", "incref, one pass"
_LENGTH = 512
_HELD_OUT = 4
_GROUP = 64

Run = Callable[[], Any]
"""Quantizes a model and gives it."""


def _load() -> Any:  # noqa: ANN401  # a model of transformers
    cls = import_module("transformers").AutoModelForCausalLM
    return cls.from_pretrained(_MODEL, dtype=torch.float32, local_files_only=True).eval()


def _incref(tokens: Tensor, *, in_one_pass: bool) -> Run:
    incref = import_module("incref")
    config = incref.GPTQConfig(
        group_size=_GROUP, use_sym=True, block_size=128, group_scales="current", true_sequential=in_one_pass
    )
    model = incref.prepare(_load(), config, record_only=in_one_pass)

    def run() -> Any:  # noqa: ANN401
        for one in tokens:
            model(one[None])
        return incref.convert(model)

    return run


def _neural_compressor(tokens: Tensor) -> Run:
    package = import_module("neural_compressor.torch.quantization")
    config = package.GPTQConfig(bits=4, group_size=_GROUP, use_sym=True, act_order=False, block_size=128)
    model = package.prepare(_load(), config)

    def run() -> Any:  # noqa: ANN401
        for one in tokens:
            model(one[None])
        return package.convert(model)

    return run


def _gptqmodel(tokens: Tensor) -> Run:
    # It wants two threads to load with, and on two cores has one. What it would compile, it can also do in Python.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "4")
    os.environ.setdefault("GPTQMODEL_DISABLE_PACK_EXT", "1")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    package = import_module("gptqmodel")
    config = package.QuantizeConfig(
        bits=4, group_size=_GROUP, sym=True, desc_act=False, act_group_aware=False, device="cpu"
    )
    loaded = package.GPTQModel.load(str(_MODEL), config)
    data = [{"input_ids": one[None], "attention_mask": torch.ones_like(one[None])} for one in tokens]

    def run() -> None:
        # What it gives is packed for kernels, and is not called here.
        loaded.quantize(data, batch_size=1)

    return run


def _llmcompressor(tokens: Tensor) -> Run:
    oneshot = import_module("llmcompressor").oneshot
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": _GROUP}
    recipe = import_module("llmcompressor.modifiers.gptq").GPTQModifier(
        config_groups={"all": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"]
    )
    data = DataLoader([{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in tokens])  # type: ignore[arg-type]  # a list will do
    model = _load()

    def run() -> Any:  # noqa: ANN401
        oneshot(
            model=model,
            dataset=data,
            recipe=recipe,
            max_seq_length=_LENGTH,
            num_calibration_samples=len(tokens),
            pipeline="sequential",
        )
        return model

    return run


_LIBRARIES: Mapping[str, Callable[[Tensor], Run]] = MappingProxyType(
    {
        _DEFAULT: partial(_incref, in_one_pass=False),
        _ONE_PASS: partial(_incref, in_one_pass=True),
        "neural-compressor-pt": _neural_compressor,
        "gptqmodel": _gptqmodel,
        "llmcompressor": _llmcompressor,
    }
)
"""By the name of its distribution, what gets everything ready."""


def _run_one(name: str, file: Path) -> None:
    tokens = torch.load(file)
    data, rest = tokens[:-_HELD_OUT], tokens[-_HELD_OUT:]
    with torch.no_grad():
        want = _load()(rest).logits
        run = _LIBRARIES[name](data)
        start = time.perf_counter()
        model = run()
        seconds = time.perf_counter() - start
        error = None
        if model is not None:
            error = float((model(rest).logits - want).square().sum() / want.square().sum())
    found = "of this tree" if name in {_DEFAULT, _ONE_PASS} else version(name)
    print(json.dumps({"seconds": seconds, "error": error, "version": found}))


def _ask(name: str, environments: Path, file: Path) -> "dict[str, Json] | str":
    path = str(_ROOT)
    if name not in {_DEFAULT, _ONE_PASS}:
        packages = environments.absolute() / name
        if not packages.is_dir():
            return "not installed"
        path = os.pathsep.join([str(packages), path])
    ran = subprocess.run(  # noqa: S603  # this program
        [sys.executable, "-m", "benchmarks.gptq_model", "--one", name, "--tokens", str(file)],
        env={**os.environ, "PYTHONPATH": path},
        # Some leave files where they run.
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        return ran.stderr.strip().splitlines()[-1][:200] if ran.stderr.strip() else f"status {ran.returncode}"
    found: dict[str, Json] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _tokens(sequences: int) -> Tensor:
    topics = import_module("pydoc_data.topics").topics
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(_MODEL, local_files_only=True)
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    wanted = (sequences + _HELD_OUT) * _LENGTH
    if len(ids) < wanted:
        raise ValueError(f"the text has {len(ids)} tokens, and {wanted} are asked for")
    return ids[:wanted].view(-1, _LENGTH)


def compare(environments: Path, *, sequences: int, rounds: int) -> dict[str, dict[str, Json]]:
    """Time every library in turn.

    Returns:
        By name the version and, where it was measured, the error, the seconds (median, least, greatest), and the times
        of incref, by default and in one pass, as shares of them.
    """
    make_smollm2(_MODEL)
    seconds: dict[str, list[float]] = {name: [] for name in _LIBRARIES}
    libraries: dict[str, dict[str, Json]] = {}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "tokens.pt"
        torch.save(_tokens(sequences), file)
        for _ in range(rounds):
            for name, times in seconds.items():
                found = _ask(name, environments, file)
                if isinstance(found, str):
                    libraries[name] = {"version": f"not measured: {found}"}
                    continue
                libraries[name] = {"version": found["version"], "error": found["error"]}
                times.append(float(str(found["seconds"])))
    for name, times in seconds.items():
        if times:
            median = statistics.median(times)
            libraries[name] |= {"seconds": median, "least": min(times), "greatest": max(times)}
            for own in (_DEFAULT, _ONE_PASS):
                if seconds[own]:
                    libraries[name][own] = statistics.median(seconds[own]) / median
    return libraries


def main() -> None:
    """Compare, print, and store the results if asked."""
    parser = argparse.ArgumentParser(description="Times of GPTQ of a whole model beside those of other libraries.")
    parser.add_argument("environments", type=Path, nargs="?")
    parser.add_argument("--one", choices=_LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.one is not None:
        _run_one(arguments.one, arguments.tokens)
        return
    if arguments.environments is None:
        parser.error("say where the environments of the peers are")
    libraries = compare(arguments.environments, sequences=arguments.sequences, rounds=arguments.rounds)
    data: dict[str, Json] = {"sequences": arguments.sequences, "tokens": _LENGTH, "rounds": arguments.rounds}
    result = {"environment": environment(), "threads": torch.get_num_threads(), "data": data, "libraries": libraries}
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
