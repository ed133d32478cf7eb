"""The error of a layer's output after GPTQ, beside that of other libraries with the same data and options.

python -m benchmarks.gptq_peers ENVIRONMENTS [--json FILE]

ENVIRONMENTS is a directory with one directory for each peer, named as its distribution and made by
`pip install --target`; a peer that is not there, or that raises, is left out and said so. Each runs in a process of its
own. The layer has 1024 inputs that are correlated, of very different size, and 1024 outputs; weights have 4 bits, in
groups of 128. incref comes twice: with the options of its peers, and with one sweep of coordinate descent after that,
which none of them has. The exit status is 1 if a peer has less error than the latter, or 1 / 1000 less than the former.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from benchmarks.gptq_peer import PEERS
from conformance.record import Json, environment
from incref.algorithms.gptq import gptq
from incref.calibration.hessian import Hessian
from incref.config.gptq import GPTQConfig
from incref.config.method import GPTQ

__all__ = ["CASES", "main", "make_layer", "quantize_here"]

CASES: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "symmetric": {"sym": True, "act_order": False, "static_groups": False},
        "zero points": {"sym": False, "act_order": False, "static_groups": False},
        "act_order": {"sym": True, "act_order": True, "static_groups": False},
        "static_groups": {"sym": True, "act_order": False, "static_groups": True},
        "static_groups, zero points": {"sym": False, "act_order": False, "static_groups": True},
        "static_groups, act_order": {"sym": True, "act_order": True, "static_groups": True},
    }
)
"""Options by name; all else is the same."""

_OURS = {"incref": 0, "incref, refine_sweeps=1": 1}
_NEARLY = 0.999
_TOKENS = 2048
_CALLS = 4
_SIZE = 1024


def make_layer(size: int = _SIZE, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """A weight [size, size], and inputs of rank size / 4 with noise, whose features have log-normal sizes."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, size, generator=generator) * size**-0.5
    mix = torch.randn(size // 4, size, generator=generator) * (size // 4) ** -0.5
    sizes = torch.randn(size, generator=generator).exp()
    inputs: list[Tensor] = []
    for _ in range(_CALLS):
        x = torch.randn(_TOKENS, size // 4, generator=generator) @ mix
        x += 0.3 * torch.randn(_TOKENS, size, generator=generator)
        inputs.append(x * sizes)
    return weight, inputs


def quantize_here(weight: Tensor, inputs: list[Tensor], case: Mapping[str, bool], sweeps: int = 0) -> Tensor:
    """The dequantized weight by incref, with so many sweeps of coordinate descent."""
    scheme = GPTQConfig(
        group_size=128,
        block_size=128,
        group_scales="current",
        use_sym=case["sym"],
        act_order=case["act_order"],
        static_groups=case["static_groups"],
        refine_sweeps=sweeps,
    ).scheme()
    assert scheme is not None
    assert isinstance(scheme.method, GPTQ)
    hessian = Hessian(weight.shape[1], weight.device)
    for x in inputs:
        hessian.add(x)
    return gptq(weight, hessian.take_total(), scheme.weight, scheme.method, overwrite=True).qweight.dequantize()


def main() -> int:
    """Compare, print, and store the results if asked."""
    parser = argparse.ArgumentParser(description="Errors of GPTQ beside those of other libraries.")
    parser.add_argument("environments", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    weight, inputs = make_layer()
    rows: dict[str, dict[str, float]] = {name: {} for name in CASES}
    for name, case in CASES.items():
        for column, sweeps in _OURS.items():
            rows[name][column] = _error(weight, quantize_here(weight, inputs, case, sweeps), inputs)
    versions: dict[str, Json] = {}
    for peer in PEERS:
        found = _run(peer, arguments.environments / peer, weight, inputs)
        if isinstance(found, str):
            versions[peer] = f"not measured: {found}"
            continue
        versions[peer] = str(found["version"])
        for name, values in found["cases"].items():
            rows[name][peer] = _error(weight, values, inputs)
    result = {"environment": environment(), "versions": versions, "errors": rows}
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(map(_is_good, rows.values())) else 1


def _is_good(row: Mapping[str, float]) -> bool:
    same, refined = (row[column] for column in _OURS)
    return refined == min(row.values()) and all(_NEARLY * same <= error for error in row.values() if error != refined)


def _error(weight: Tensor, values: Tensor, inputs: list[Tensor]) -> float:
    """Squared error of the output, as a share of its square."""
    w, e = weight.to(torch.float64).T, (values.to(torch.float64) - weight).T
    wrong = sum(float((x.to(torch.float64) @ e).square().sum()) for x in inputs)
    return wrong / sum(float((x.to(torch.float64) @ w).square().sum()) for x in inputs)


def _run(peer: str, packages: Path, weight: Tensor, inputs: list[Tensor]) -> "dict[str, object] | str":
    """What `peer` makes of the layer, or why it makes nothing."""
    if not packages.is_dir():
        return "not installed"
    with tempfile.TemporaryDirectory() as directory:
        data, out = Path(directory) / "data.pt", Path(directory) / "out.pt"
        torch.save({"weight": weight, "inputs": inputs, "cases": {k: dict(v) for k, v in CASES.items()}}, data)
        path = os.pathsep.join([str(packages), str(Path(__file__).parent.parent)])
        ran = subprocess.run(  # noqa: S603  # this program
            [sys.executable, "-m", "benchmarks.gptq_peer", peer, str(data), str(out)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            return ran.stderr.strip().splitlines()[-1][:200] if ran.stderr.strip() else f"status {ran.returncode}"
        found: dict[str, object] = torch.load(out)
        return found


if __name__ == "__main__":
    sys.exit(main())
