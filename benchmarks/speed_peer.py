"""The same conversions by another library, in a process and an environment of its own, beside a copy and incref there.

python -m benchmarks.speed_peer NAME --mebibytes N --rounds N
"""

import argparse
import importlib
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed_result import ratio_of
from benchmarks.timing import measure
from incref.formats import BlockFormat, get_format
from incref.ops import cast, fake_quantize_mx
from incref_kernels.cpu import BACKEND

__all__ = ["PEERS", "ask", "ask_module"]

Functions = dict[str, Callable[[], object]]


def _ml_dtypes(x: Tensor) -> Functions:
    package = importlib.import_module("ml_dtypes")
    array = x.numpy()

    def convert(dtype: Any) -> object:  # noqa: ANN401  # a dtype of numpy
        return array.astype(dtype).astype(array.dtype)

    names = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")
    return {name: partial(convert, getattr(package, name)) for name in names}


def _gfloat(x: Tensor) -> Functions:
    package, formats = importlib.import_module("gfloat"), importlib.import_module("gfloat.formats")
    array = x.numpy()
    mode = package.RoundMode.TiesToEven
    names = {"float8_e4m3fn": formats.format_info_ocp_e4m3, "float4_e2m1fn": formats.format_info_ocp_e2m1}
    return {name: partial(package.round_ndarray, info, array, mode, sat=True) for name, info in names.items()}


def _torchao(x: Tensor) -> Functions:
    mx = importlib.import_module("torchao.prototype.mx_formats.mx_tensor").MXTensor
    elements: dict[str, object] = {"mxfp8_e4m3": torch.float8_e4m3fn, "mxfp8_e5m2": torch.float8_e5m2}
    if hasattr(torch, "float4_e2m1fn_x2"):
        elements["mxfp4"] = torch.float4_e2m1fn_x2

    def convert(element: object) -> object:
        return mx.to_mx(x, element, 32).dequantize(x.dtype)

    return {name: partial(convert, element) for name, element in elements.items()}


def _neural_compressor(x: Tensor) -> Functions:
    convert = importlib.import_module("neural_compressor.torch.algorithms.mx_quant.utils").quantize_mx_op
    names = {"mxfp8_e4m3": "fp8_e4m3", "mxfp4": "fp4"}
    return {name: partial(convert, x, element, "even", 32, axes=[-1]) for name, element in names.items()}


PEERS: Mapping[str, Callable[[Tensor], Functions]] = {
    "neural-compressor-pt": _neural_compressor,
    "torchao": _torchao,
    "ml_dtypes": _ml_dtypes,
    "gfloat": _gfloat,
}
"""By name of the distribution: what converts a tensor, by the name of a row."""


def ask(name: str, environments: Path | None, mebibytes: int, rounds: int) -> "dict[str, Any] | str":
    """Time a library in a process of its own.

    Args:
        name: of the distribution.
        environments: a directory with one for each library, made by `pip install --target`. One that is not there is
            looked for among the packages of this process.
        mebibytes: size of the tensor.
        rounds: how often each conversion is timed.

    Returns:
        Its version, and the ratios of its times to those of a copy and of incref; or why there are none.
    """
    arguments = [name, "--mebibytes", str(mebibytes), "--rounds", str(rounds)]
    return ask_module("benchmarks.speed_peer", environments / name if environments else None, arguments)


def ask_module(module: str, packages: Path | None, arguments: Sequence[str]) -> "dict[str, Any] | str":
    """Run a module of this tree in a process of its own, with packages that come before those of this process.

    Returns:
        The JSON of its last line, or why there is none.
    """
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join([str(packages), root]) if packages and packages.is_dir() else root
    ran = subprocess.run(  # noqa: S603  # this program
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        last = ran.stderr.strip().splitlines()[-1:] or [f"status {ran.returncode}"]
        return f"not measured: {last[0][:200]}"
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--mebibytes", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    x = torch.randn(arguments.mebibytes * 256, 1024, generator=torch.Generator().manual_seed(0))
    into = torch.empty_like(x)
    ratios = {}
    with torch.no_grad():
        for row, convert in PEERS[arguments.name](x).items():
            functions = {"copy_": partial(into.copy_, x), "incref": _own(x, row, into), "peer": convert}
            times = measure(functions, rounds=arguments.rounds)
            to_copy, to_own = (ratio_of(times["peer"], times[base]) for base in ("copy_", "incref"))
            ratios[row] = {"copy_": to_copy.as_json(), "incref": to_own.as_json()}
    print(json.dumps({"version": importlib.metadata.version(arguments.name), "ratios": ratios}))


def _own(x: Tensor, fmt: str, into: Tensor) -> Callable[[], object]:
    op = fake_quantize_mx if isinstance(get_format(fmt), BlockFormat) else cast
    return partial(op.on(BACKEND), x, fmt, out=into)


if __name__ == "__main__":
    _main()
