"""One layer quantized by GPTQ of one peer, in a process of its own.

python -m benchmarks.gptq_peer PEER DATA OUT

DATA holds a weight [N, K], inputs and cases, as `benchmarks.gptq_peers` writes them; OUT gets the dequantized weight
of every case that the peer has.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PEERS", "main"]

_GROUP = 128
_DAMP = 0.01


def _layer(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def neural_compressor(weight: Tensor, inputs: list[Tensor], case: dict[str, bool]) -> Tensor | None:
    """By `neural_compressor_pt`; with scales of the original weights it raises."""
    if case["static_groups"]:
        return None
    gptq = import_module("neural_compressor.torch.algorithms.weight_only.gptq").GPTQ(_layer(weight), weight)
    gptq.quantizer.configure(
        {
            "bits": 4,
            "sym": case["sym"],
            "dtype": "int",
            "perchannel": True,
            "mse": False,
            "group_size": _GROUP,
            "use_double_quant": False,
            "double_quant_sym": False,
            "double_quant_dtype": "int",
            "double_quant_bits": 8,
            "double_quant_group_size": 256,
        }
    )
    for x in inputs:
        gptq.add_batch(x, None)
    *_, values = gptq.fasterquant(
        weight.clone(), blocksize=128, percdamp=_DAMP, groupsize=_GROUP, act_order=case["act_order"]
    )
    return _as_tensor(values)


def gptqmodel(weight: Tensor, inputs: list[Tensor], case: dict[str, bool]) -> Tensor | None:
    """By `gptqmodel`."""
    module = import_module("gptqmodel.quantization.gptq")
    named = import_module("gptqmodel.looper.named_module").NamedModule(_layer(weight), "layer", "layer", 0)
    config = import_module("gptqmodel.quantization.config").QuantizeConfig(
        bits=4,
        group_size=_GROUP,
        sym=case["sym"],
        desc_act=case["act_order"],
        static_groups=case["static_groups"],
        act_group_aware=False,
        damp_percent=_DAMP,
        mse=0.0,
        fallback=None,
    )
    gptq = module.GPTQ(named, config)
    gptq.fallback = None
    gptq.expected_nsamples = float(sum(len(x) for x in inputs))
    gptq.quantizer.configure(perchannel=True)
    for x in inputs:
        gptq.add_batch(x[None], x[None] @ weight.T)
    values, *_ = gptq.quantize(blocksize=128)
    return _as_tensor(values)


def llmcompressor(weight: Tensor, inputs: list[Tensor], case: dict[str, bool]) -> Tensor | None:
    """By `llmcompressor`, whose scales are always those of the original weights."""
    if not case["static_groups"]:
        return None
    args = import_module("compressed_tensors.quantization").QuantizationArgs(
        num_bits=4,
        symmetric=case["sym"],
        strategy="group",
        group_size=_GROUP,
        actorder="weight" if case["act_order"] else None,
    )
    groups = weight.view(len(weight), -1, _GROUP)
    find = import_module("compressed_tensors.quantization.utils").calculate_qparams
    scale, zero_point = find(groups.amin(-1), groups.amax(-1), args)
    hessian = torch.zeros(weight.shape[1], weight.shape[1])
    for x in inputs:
        hessian += x.T @ x * (2 / sum(len(one) for one in inputs))
    quantize = import_module("llmcompressor.modifiers.gptq.gptq_quantize").quantize_weight
    values, *_ = quantize(
        weight.clone()[None], hessian[None], scale[None], zero_point[None], None, args, blocksize=128, percdamp=_DAMP
    )
    return _as_tensor(values[0])


def _as_tensor(values: object) -> Tensor:
    assert isinstance(values, Tensor)
    return values.detach().to(torch.float32)


Quantize = Callable[[Tensor, list[Tensor], dict[str, bool]], Tensor | None]

PEERS: Mapping[str, Quantize] = MappingProxyType(
    {"neural-compressor-pt": neural_compressor, "gptqmodel": gptqmodel, "llmcompressor": llmcompressor}
)
"""By the name of its distribution, what quantizes a layer; None for what a peer does not have."""


def main() -> None:
    """Quantize by the peer that the command line names."""
    peer, data, out = sys.argv[1:]
    given = torch.load(data)
    found: dict[str, Any] = {"version": version(peer), "cases": {}}
    for name, case in given["cases"].items():
        with torch.no_grad():
            values = PEERS[peer](given["weight"], given["inputs"], case)
        if values is not None:
            found["cases"][name] = values
    torch.save(found, out)


if __name__ == "__main__":
    main()
