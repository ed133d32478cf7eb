"""SmolLM2 in every layout of 4-bit weights, loaded as it is and for the simulated Gaudi: logits, memory, seconds.

python -m benchmarks.hpu_checkpoints [--checkpoints DIR] [--layout NAME] write | measure | time
python -m benchmarks.hpu_checkpoints [--checkpoints DIR] [--model DIR] others LIBRARY --python PYTHON

`write` quantizes the model once and saves it in every layout. `measure` loads each in processes of their own: by the
references; for the Gaudi without the repacked file, and with it; and with it by the references. `time` loads each
again and again in one process. `others` lets a Python that has AutoRound or GPTQModel write checkpoints and dequantize
them, and compares. Results are kept in benchmarks/results/hpu_checkpoints.json.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import auto_round_peer, gptqmodel_peer
from benchmarks.memory import watch_growth
from benchmarks.smollm2 import make_smollm2
from benchmarks.timing import measure
from conformance.record import Json, environment
from incref import RTNConfig, load, quantize, save
from incref.checkpoints.files import write_atomically
from incref.checkpoints.shards import TensorFiles
from incref.checkpoints.stamped import HPU_FILE
from incref.evaluation.huggingface import load_model
from incref.modules.layer import QuantLayer
from incref.workflow.transformers_model import empty_model
from incref_kernels.hpu.simulator.simulate import simulate

__all__ = ["compare", "main"]

_PEERS: Mapping[str, ModuleType] = MappingProxyType({"auto-round": auto_round_peer, "gptqmodel": gptqmodel_peer})
_LAYOUTS = ("gptq_v1", "gptq_v2", "awq", "compressed-tensors")
_CHIP = "gaudi3"
_RESULTS = Path(__file__).parent / "results" / "hpu_checkpoints.json"
_MIB = 1 << 20
_TOKENS = 32
_ROUNDS = 3
_LINE = 200


def _load(directory: Path, device: str, backend: str | None = None) -> nn.Module:
    return load(directory, format="huggingface", device=device, torch_dtype=torch.bfloat16, backend=backend)


def _load_afresh(directory: Path, device: str) -> nn.Module:
    (directory / HPU_FILE).unlink(missing_ok=True)
    return _load(directory, device)


def _describe(directory: Path, device: str, backend: str | None) -> dict[str, Json]:
    """Load a checkpoint, and call the model once.

    Returns:
        By how much the memory of the process that no file backs grew at most, and what the tensors of the model and
        of its kernels take, mapped from files or not, in MiB; SHA-256 of the logits; the kernels that computed them.
    """
    # What is imported once is no memory of the model.
    empty_model(directory)
    with watch_growth() as growth:
        model = _load(directory, device, backend)
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.arange(_TOKENS)[None]).logits
    return {
        "peak_mib": round(growth.peak / _MIB, 1),
        "tensors_mib": round(_nbytes(model) / _MIB, 1),
        "logits": hashlib.sha256(logits.view(torch.int16).numpy().tobytes()).hexdigest(),
        "kernels": sorted({one.kernel for one in _layers(model).values()}),
    }


def _nbytes(model: nn.Module) -> int:
    """Bytes of all tensors of a model and of its kernels, each once."""
    tensors: list[Tensor | None] = [*model.parameters(), *model.buffers()]
    for layer in _layers(model).values():
        product = getattr(layer, "_product", None)
        tensors += [] if product is None else product.prepared.tensors
    sizes = {tensor.data_ptr(): tensor.nbytes for tensor in tensors if tensor is not None}
    return sum(sizes.values())


def _describe_all(directory: Path) -> dict[str, Json]:
    """Describe a checkpoint as every way to load it makes it."""
    (directory / HPU_FILE).unlink(missing_ok=True)
    loads: dict[str, Json] = {}
    for name, *arguments in (
        ("references", "cpu"),
        ("first", "hpu"),
        ("second", "hpu"),
        ("second, references", "hpu", "reference"),
    ):
        done = subprocess.run(  # noqa: S603  # this module
            [sys.executable, "-m", "benchmarks.hpu_checkpoints", "describe", str(directory), *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        loads[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{directory.name}, {name}: {loads[name]}", flush=True)
    stored = sum(path.stat().st_size for path in set(TensorFiles.find(directory).files.values()))
    return {
        "stored_mib": round(stored / _MIB, 1),
        "repacked_mib": round((directory / HPU_FILE).stat().st_size / _MIB, 1),
        "loads": loads,
    }


def _time(directory: Path) -> dict[str, Json]:
    """Seconds to load, the median; all files are in the memory that the system keeps them in."""
    with simulate(_CHIP):
        times = measure(
            {
                "references": partial(_load, directory, "cpu"),
                "first": partial(_load_afresh, directory, "hpu"),
                "second": partial(_load, directory, "hpu"),
            },
            rounds=_ROUNDS,
        )
    return {"seconds": {name: round(one.median, 3) for name, one in times.items()}}


_MEASURES = {"measure": _describe_all, "time": _time}
"""What is kept of a checkpoint, by the command that measures it."""


def compare(directory: Path, values: Path) -> dict[str, Json]:
    """Compare the weights of a checkpoint with what the library that wrote it makes of them, in every bit.

    Returns:
        How many layers and weights there are; the layers whose weight is another one as they are loaded by default,
        and for the Gaudi, there in float32, in which products are exact, and rounded to the dtype of theirs; the
        kernels that compute these.
    """
    theirs = load_file(values)
    stored = _layers(load(directory, format="huggingface"))
    with simulate(_CHIP):
        repacked = _layers(load(directory, format="huggingface", device="hpu", torch_dtype=torch.float32))
    return {
        "layers": len(theirs),
        "weights": sum(weight.numel() for weight in theirs.values()),
        "unlike": _unlike({name: layer.weight for name, layer in stored.items()}, theirs),
        "unlike_repacked": _unlike(
            {name: layer.weight.to(theirs[name].dtype) for name, layer in repacked.items() if name in theirs}, theirs
        ),
        "kernels": sorted({layer.kernel for layer in repacked.values()}),
    }


def _layers(model: nn.Module) -> dict[str, QuantLayer]:
    return {name: one for name, one in model.named_modules() if isinstance(one, QuantLayer)}


def _unlike(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[Json]:
    names = sorted(ours.keys() | theirs.keys())
    return [name for name in names if not (name in ours and name in theirs and _is_same(ours[name], theirs[name]))]


def _is_same(one: Tensor, other: Tensor) -> bool:
    integers = {2: torch.int16, 4: torch.int32}[one.element_size()]
    return one.dtype is other.dtype and torch.equal(one.view(integers), other.view(integers))


def _write(checkpoints: Path, source: Path, layouts: Sequence[str]) -> None:
    make_smollm2(source)
    model = quantize(load_model(source), RTNConfig(use_sym=False, group_size=64, scale_dtype="bfloat16"))
    for layout in layouts:
        save(model, checkpoints / layout, format="huggingface", layout=layout, scale_dtype="bfloat16")


def _compare_others(directory: Path, source: Path, peer: ModuleType, python: Path) -> dict[str, Json]:
    directory.mkdir(parents=True, exist_ok=True)
    # Checkpoints that are there already stay.
    command = [str(python), "-m", peer.__name__, str(source), str(directory)]
    subprocess.run(command, check=True)  # noqa: S603  # the Python that the caller names
    cases: dict[str, Json] = {}
    for name, case in peer.CASES.items():
        compared = compare(directory / name, directory / f"{name}.safetensors")
        cases[name] = {**case, **compared}
        print(f"{name}: {compared}"[:_LINE], flush=True)
    version = (directory / "version.txt").read_text(encoding="utf-8").strip()
    return {"version": version, "model": source.name, "cases": cases}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, default=Path("build/hpu_checkpoints"))
    parser.add_argument("--layout", action="append", choices=_LAYOUTS, help="all, if it is not given")
    parser.add_argument("--model", type=Path, default=Path("build/smollm2"))
    parser.add_argument("--json", type=Path, default=_RESULTS)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("write", *_MEASURES):
        commands.add_parser(name)
    comparing = commands.add_parser("others")
    comparing.add_argument("library", choices=_PEERS)
    comparing.add_argument("--python", type=Path, required=True)
    describing = commands.add_parser("describe")
    describing.add_argument("directory", type=Path)
    describing.add_argument("device", choices=("cpu", "hpu"))
    describing.add_argument("backend", nargs="?")
    options = parser.parse_args(arguments)
    if options.command == "describe":
        with simulate(_CHIP):
            print(json.dumps(_describe(options.directory, options.device, options.backend)))
        return
    if options.command == "write":
        _write(options.checkpoints, options.model, options.layout or _LAYOUTS)
        return
    found = json.loads(options.json.read_text()) if options.json.is_file() else {}
    if options.command == "others":
        library, directory = options.library, options.checkpoints / options.library
        found.setdefault("others", {})[library] = _compare_others(
            directory, options.model, _PEERS[library], options.python
        )
    else:
        for layout in options.layout or _LAYOUTS:
            row = _MEASURES[options.command](options.checkpoints / layout)
            found.setdefault("layouts", {}).setdefault(layout, {}).update(row)
            print(f"{layout}: {row}", flush=True)
    found |= {"chip": _CHIP, "environment": environment()}
    write_atomically(options.json, (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
