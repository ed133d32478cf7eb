"""Products with quantized weights by ONNX Runtime, in a process and an environment of its own, beside incref's there.

python -m benchmarks.product_peer --rounds N

Both take the same codes and scales, and floats in and out, beside PyTorch's product of bfloat16 and of float32.
"""

import argparse
import json
import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed_peer import ask_module
from benchmarks.speed_result import speedup_of
from benchmarks.timing import measure
from incref import INT8StaticQuantConfig, convert, prepare
from incref.config.schemes import SCHEMES
from incref.formats import IntFormat
from incref.modules.linear import QuantLinear
from incref.ops.packed_codes import unpack_codes
from incref.workflow.quantize import quantize

__all__ = ["ask_onnxruntime"]

_NAME = "onnxruntime"
_GROUP = 128
_ZERO = 8
_OPSET = 21
# Products of 4-bit weights with inputs rounded to 8 bits, the fastest that it has.
_INT8_INPUTS = 4
# Inputs of 8 bits are two digits; a wrong layout gives nothing alike.
_NEARLY = 0.05

_INT4 = (("decode with int4 weights", 1, 4096, 11008), ("prefill with int4 weights", 512, 4096, 4096))
_INT8 = ("static int8 linear with its input", 512, 4096, 4096)


def ask_onnxruntime(environments: Path | None, rounds: int) -> "dict[str, Any] | str":
    """Time it in a process of its own.

    Args:
        environments: a directory with one for each library, made by `pip install --target`.
        rounds: how often each product is timed.

    Returns:
        Its version, and by product how many times as fast as PyTorch's it and incref are; or why there is nothing.
    """
    packages = environments / _NAME if environments else None
    if packages is None or not packages.is_dir():
        return "not installed"
    return ask_module("benchmarks.product_peer", packages, ["--rounds", str(rounds)])


def _session(node: Any, k: int, n: int, values: list[Any]) -> Any:  # noqa: ANN401  # of ONNX and its runtime
    onnx, runtime = import_module("onnx"), import_module(_NAME)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = node if isinstance(node, list) else [node]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", kind, ["M", k])],
        [helper.make_tensor_value_info("y", kind, ["M", n])],
        values,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Its threads would wait for the next call on the cores that PyTorch's then compute on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _value(name: str, tensor: Tensor) -> Any:  # noqa: ANN401
    return import_module("onnx").numpy_helper.from_array(tensor.contiguous().numpy(), name)


def _int4(layer: nn.Module) -> Any:  # noqa: ANN401
    assert isinstance(layer, QuantLinear)
    weight = layer.qweight
    n, k = weight.shape
    fmt = weight.spec.fmt
    assert isinstance(fmt, IntFormat)
    codes = unpack_codes(weight.packed, fmt, weight.shape, weight.layout)
    unsigned = (codes + _ZERO).to(torch.uint8).view(n, k // _GROUP, _GROUP // 2, 2)
    node = import_module("onnx").helper.make_node(
        "MatMulNBits",
        ["x", "w", "scale"],
        ["y"],
        domain="com.microsoft",
        K=k,
        N=n,
        bits=4,
        block_size=_GROUP,
        accuracy_level=_INT8_INPUTS,
    )
    return _session(
        node,
        k,
        n,
        [_value("w", unsigned[..., 0] | unsigned[..., 1] << 4), _value("scale", weight.scale.to(torch.float32))],
    )


def _int8(layer: nn.Module, x: Tensor) -> Any:  # noqa: ANN401
    helper = import_module("onnx").helper
    assert isinstance(layer, QuantLinear)
    weight = layer.qweight
    n, k = weight.shape
    low, high = float(x.min()), float(x.max())
    scale = (high - low) / 255
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale", "x.zero"], ["x.codes"]),
        helper.make_node("DequantizeLinear", ["x.codes", "x.scale", "x.zero"], ["x.values"]),
        helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["w.values"], axis=1),
        helper.make_node("MatMul", ["x.values", "w.values"], ["y"]),
    ]
    values = [
        _value("x.scale", torch.tensor(scale)),
        _value("x.zero", torch.tensor(round(-low / scale), dtype=torch.uint8)),
        _value("w", weight.packed.view(torch.int8).view(n, k).T),
        _value("w.scale", weight.scale.to(torch.float32).flatten()),
        _value("w.zero", torch.zeros(n, dtype=torch.int8)),
    ]
    return _session(nodes, k, n, values)


def _run(session: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def _ratios(session: Any, own: nn.Module, x: Tensor, w: Tensor, rounds: int) -> dict[str, Any]:  # noqa: ANN401
    expected = own(x)
    # Both differ from the product with floats by more than from each other.
    error = float((_run(session, x) - expected).norm() / expected.norm())
    if not error < _NEARLY:
        raise ValueError(f"{_NAME} computes another product: {error:.3f} of it is not incref's")
    narrow = partial(F.linear, x.to(torch.bfloat16), w.to(torch.bfloat16))
    functions: dict[str, Callable[[], object]] = {
        "narrow": narrow,
        "wide": partial(F.linear, x, w),
        "peer": partial(_run, session, x),
        "incref": partial(own, x),
    }
    times = measure(functions, rounds=rounds)
    return {
        name: {
            to: speedup_of(times[name], times[base]).as_json()
            for to, base in (("bfloat16", "narrow"), ("float32", "wide"))
        }
        for name in ("peer", "incref")
    }


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    with torch.no_grad():
        for work, m, k, n in _INT4:
            layer, x = nn.Linear(k, n, bias=False), torch.randn(m, k)
            w = layer.weight.detach().clone()
            own = quantize(nn.Sequential(layer), SCHEMES["int4_g128"], backend="cpu")
            found[f"{work}, {m} x {k} x {n}"] = _ratios(_int4(next(own.children())), own, x, w, rounds)
        work, m, k, n = _INT8
        layer, x = nn.Linear(k, n, bias=False), torch.randn(m, k)
        w = layer.weight.detach().clone()
        prepared = prepare(nn.Sequential(layer), INT8StaticQuantConfig())
        prepared(x)
        converted = convert(prepared, backend="cpu")
        found[f"{work}, {m} x {k} x {n}"] = _ratios(_int8(next(converted.children()), x), converted, x, w, rounds)
    print(json.dumps({"version": version(_NAME), "ratios": found}))


if __name__ == "__main__":
    _main()
