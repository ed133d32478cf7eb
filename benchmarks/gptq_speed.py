"""Time that GPTQ takes for a layer, beside that of other libraries with the same data and options.

python -m benchmarks.gptq_speed ENVIRONMENTS [--size N] [--rows N] [--rounds N] [--json FILE]

ENVIRONMENTS is that of `benchmarks.gptq_peers`. Libraries take turns, each in a process of its own, which makes the
data, quantizes a small layer to warm up, then is timed from the first row of calibration data to the weight. Weights
have 4 bits, in groups of 128, symmetric; columns in the order given; scales of groups as they are met, where a library
has them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gptq_peer import PEERS
from conformance.record import Json, environment

__all__ = ["compare", "main"]

_RUN = 2048
_SMALL = 256


def _make_layer(size: int, rows: int) -> tuple[Tensor, list[Tensor]]:
    """A weight and inputs as `benchmarks.gptq_peers` has them, in runs of 2048 rows."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=generator) * size**-0.5
    mix = torch.randn(size // 4, size, generator=generator) * (size // 4) ** -0.5
    sizes = torch.randn(size, generator=generator).exp()
    inputs = []
    for start in range(0, rows, _RUN):
        count = min(_RUN, rows - start)
        x = torch.randn(count, size // 4, generator=generator) @ mix
        inputs.append((x + 0.3 * torch.randn(count, size, generator=generator)) * sizes)
    return weight, inputs


def _quantizer(name: str) -> Callable[[Tensor, list[Tensor]], Tensor]:
    case = {"sym": True, "act_order": False, "static_groups": name == "llmcompressor"}
    if name == "incref":
        # It is not there where a peer runs with an older PyTorch.
        from benchmarks.gptq_peers import quantize_here  # noqa: PLC0415

        return partial(quantize_here, case=case)

    def quantize(weight: Tensor, inputs: list[Tensor]) -> Tensor:
        values = PEERS[name](weight, inputs, case)
        assert values is not None
        return values

    return quantize


def _run_one(name: str, size: int, rows: int) -> None:
    quantize = _quantizer(name)
    with torch.no_grad():
        quantize(*_make_layer(_SMALL, _SMALL))
        weight, inputs = _make_layer(size, rows)
        start = time.perf_counter()
        values = quantize(weight, inputs)
        seconds = time.perf_counter() - start
        # On some of the data, which all libraries have seen.
        x = inputs[0]
        error = float((x @ (values - weight).T).square().sum() / (x @ weight.T).square().sum())
    found = "of this tree" if name == "incref" else version(name)
    print(json.dumps({"seconds": seconds, "error": error, "version": found}))


def _ask(name: str, environments: Path, size: int, rows: int) -> "dict[str, Json] | str":
    root = str(Path(__file__).parent.parent)
    packages = environments / name
    if name != "incref" and not packages.is_dir():
        return "not installed"
    path = root if name == "incref" else os.pathsep.join([str(packages), root])
    command = [sys.executable, "-m", "benchmarks.gptq_speed", "--one", name, "--size", str(size), "--rows", str(rows)]
    ran = subprocess.run(  # noqa: S603  # this program
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        return ran.stderr.strip().splitlines()[-1][:200] if ran.stderr.strip() else f"status {ran.returncode}"
    found: dict[str, Json] = json.loads(ran.stdout.splitlines()[-1])
    return found


def compare(environments: Path, *, size: int, rows: int, rounds: int) -> dict[str, dict[str, Json]]:
    """Time every library in turn.

    Returns:
        By name the version and, where it was measured, the error, the seconds (median, least, greatest), and incref's
        time as a share of them.
    """
    names = ["incref", *PEERS]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    libraries: dict[str, dict[str, Json]] = {}
    for _ in range(rounds):
        for name in names:
            found = _ask(name, environments, size, rows)
            if isinstance(found, str):
                libraries[name] = {"version": f"not measured: {found}"}
                continue
            libraries[name] = {"version": found["version"], "error": found["error"]}
            seconds[name].append(float(str(found["seconds"])))
    for name, times in seconds.items():
        if times:
            median = statistics.median(times)
            libraries[name] |= {"seconds": median, "least": min(times), "greatest": max(times)}
            if seconds["incref"]:
                libraries[name]["incref"] = statistics.median(seconds["incref"]) / median
    return libraries


def main() -> None:
    """Compare, print, and store the results if asked."""
    parser = argparse.ArgumentParser(description="Times of GPTQ beside those of other libraries.")
    parser.add_argument("environments", type=Path, nargs="?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.one is not None:
        _run_one(arguments.one, arguments.size, arguments.rows)
        return
    if arguments.environments is None:
        parser.error("say where the environments of the peers are")
    libraries = compare(arguments.environments, size=arguments.size, rows=arguments.rows, rounds=arguments.rounds)
    shape: dict[str, Json] = {"size": arguments.size, "rows": arguments.rows, "rounds": arguments.rounds}
    result = {"environment": environment(), "threads": torch.get_num_threads(), "layer": shape, "libraries": libraries}
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
