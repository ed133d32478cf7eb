"""Keeps what `conformance.tensor_core_probe` found: its report among the results, and its samples as vectors.

`python -m conformance.tensor_core_record DIRECTORY` reads `probe.json` and `samples.pt`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from conformance.record import RESULTS, Json, store
from incref.formats import FORMATS, FloatFormat
from incref.ops.encode import encode

__all__ = ["KIND", "VECTORS", "main", "read_vectors", "vectors_of"]

KIND = "tensor_cores"
"""Name of the results, by device."""

VECTORS = RESULTS.parent / "vectors"
"""One file a device: codes of operands, and the float32 results of the machine, by its name."""

_SIDE = 24
_KEPT = {
    "tl.dot float8_e4m3fn max_num_imprecise_acc=None": ("float8_e4m3fn", "float8_e4m3fn"),
    "tl.dot float8_e5m2 max_num_imprecise_acc=None": ("float8_e5m2", "float8_e5m2"),
    "tl.dot float8_e5m2 max_num_imprecise_acc=0": ("float8_e5m2", "float8_e5m2"),
    "tl.dot float8_e5m2 max_num_imprecise_acc=128": ("float8_e5m2", "float8_e5m2"),
    "scaled_mm float8_e5m2 float8_e4m3fn slow tensor float32": ("float8_e5m2", "float8_e4m3fn"),
    "tl.dot float16 4 warps": ("float16", "float16"),
    "tl.dot float16 2 warps": ("float16", "float16"),
    "tl.dot bfloat16 4 warps": ("bfloat16", "bfloat16"),
    "tl.dot tf32 2 warps": ("tf32", "tf32"),
}
"""Machines whose samples become vectors, with the formats of their operands."""


def vectors_of(samples: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Turn samples, by "machine: label", into tensors "machine/a", "machine/b" and "machine/got"."""
    found = {}
    for key, sample in samples.items():
        machine = key.partition(": ")[0]
        if machine not in _KEPT:
            continue
        for side, name in zip("ab", _KEPT[machine], strict=True):
            found[f"{machine}/{side}"] = encode(sample[side][:_SIDE], name).contiguous()
        found[f"{machine}/got"] = sample["got"][:_SIDE, :_SIDE].contiguous()
    return found


def read_vectors(path: Path) -> dict[str, tuple[Tensor, Tensor, Tensor, FloatFormat, FloatFormat]]:
    """Read codes of `a` and of `b`, the results, and the formats of both, by machine."""
    found = {}
    with safe_open(path, framework="pt") as file:
        for machine in sorted({key.rpartition("/")[0] for key in file.keys()}):  # noqa: SIM118  # it is no mapping
            a, b, got = (file.get_tensor(f"{machine}/{part}") for part in ("a", "b", "got"))
            left, right = (FORMATS[name] for name in _KEPT[machine])
            assert isinstance(left, FloatFormat)
            assert isinstance(right, FloatFormat)
            found[machine] = (a, b, got, left, right)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Store the report and the vectors under the name of the device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    report: dict[str, Json] = json.loads((options.directory / "probe.json").read_text())
    environment = report["environment"]
    assert isinstance(environment, dict)
    device = str(environment["device"])
    store(KIND, device, report)
    samples = torch.load(options.directory / "samples.pt")
    VECTORS.mkdir(exist_ok=True)
    save_file(vectors_of(samples), VECTORS / f"{device.lower().replace(' ', '_')}.safetensors")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
