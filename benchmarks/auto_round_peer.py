"""Checkpoints that AutoRound writes, and the weights that it computes of them, in a process of its own.

python -m benchmarks.auto_round_peer MODEL OUT

MODEL is the directory of a float model of transformers. For every case OUT gets a directory with the checkpoint, and a
safetensors file with the weight [N, K] of each of its layers, dequantized by AutoRound's own layers.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["CASES", "main"]

CASES: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "gptq-int4-g64": {"format": "auto_gptq", "bits": 4, "sym": True, "group_size": 64},
        "gptq-uint4-g32": {"format": "auto_gptq", "bits": 4, "sym": False, "group_size": 32},
        "awq-uint4-g32": {"format": "auto_awq", "bits": 4, "sym": False, "group_size": 32},
    }
)
"""Options by name; codes are the nearest to each weight, so that no data is needed."""


def main(model: str, out: Path) -> None:
    """Write every case that is not there yet, and say which version did."""
    for name, case in CASES.items():
        if not (out / name / "config.json").is_file():
            _write(model, out / name, case)
        save_file(_dequantize(out / name, case), out / f"{name}.safetensors")
    (out / "version.txt").write_text(version("auto-round"), encoding="utf-8")


def _write(model: str, directory: Path, case: Mapping[str, object]) -> None:
    options = {key: value for key, value in case.items() if key != "format"}
    auto_round = import_module("auto_round").AutoRound(
        model, iters=0, disable_opt_rtn=True, device_map="cpu", enable_torch_compile=False, **options
    )
    shutil.rmtree(directory, ignore_errors=True)
    auto_round.quantize_and_save(str(directory), format=case["format"])
    # AutoRound makes a directory in the one that it is given.
    written = next(directory.glob("*/config.json")).parent
    for path in written.iterdir():
        path.rename(directory / path.name)
    written.rmdir()


def _dequantize(directory: Path, case: Mapping[str, object]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if any(name.endswith(".qweight") for name in file.keys()):  # noqa: SIM118  # not a dict
                tensors |= load_file(path)
    layers = sorted(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))
    by = _dequantize_awq if case["format"] == "auto_awq" else _dequantize_gptq
    return {
        name: by({part: tensors[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales")}, case).T.contiguous()
        for name in layers
    }


def _dequantize_awq(parts: dict[str, Tensor], case: Mapping[str, object]) -> Tensor:
    utils = import_module("auto_round.export.export_to_awq.utils")
    weight: Tensor = utils.dequantize_gemm(
        parts["qweight"], parts["qzeros"], parts["scales"], case["bits"], case["group_size"]
    )
    return weight


def _dequantize_gptq(parts: dict[str, Tensor], case: Mapping[str, object]) -> Tensor:
    """The weight that a layer multiplies."""
    rows, columns = parts["qweight"].shape[0] * 32 // int(str(case["bits"])), parts["qweight"].shape[1]
    module = import_module("auto_round_extension.torch.qlinear_torch_zp")
    layer = module.QuantLinear(case["bits"], case["group_size"], rows, columns, bias=False)
    for name, tensor in parts.items():
        setattr(layer, name, tensor)
    with torch.no_grad(), _Factors() as factors:
        layer(torch.zeros(1, rows, dtype=parts["scales"].dtype))
    (weight,) = factors.found
    return weight


class _Factors(TorchFunctionMode):
    """Keeps what is multiplied: a product with the identity would lose the sign of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is torch.matmul:
            assert isinstance(args[1], Tensor)
            self.found.append(args[1])
        return func(*args, **(kwargs or {}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
