"""Checkpoints that GPTQModel writes, and the weights that it computes of them, in a process of its own.

python -m benchmarks.gptqmodel_peer MODEL OUT

MODEL is the directory of a float model of transformers, with its tokenizer; its first two blocks are quantized. For
every case OUT gets a directory with the checkpoint, and a safetensors file with the weight [N, K] of each of its
layers, dequantized by GPTQModel's own layers.
"""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["CASES", "main"]

CASES: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "gptq-int4-g64-act_order": {"format": "gptq", "bits": 4, "sym": True, "group_size": 64, "desc_act": True},
        "gptq_v2-uint4-g32-act_order": {
            "format": "gptq_v2",
            "bits": 4,
            "sym": False,
            "group_size": 32,
            "desc_act": True,
        },
    }
)
"""Options by name; groups are those of GPTQ with columns in order of the Hessian's diagonal."""

_BLOCKS = 2
_CALLS, _TOKENS = 16, 64


def main(model: str, out: Path) -> None:
    """Write every case that is not there yet, and say which version did."""
    # It wants two threads to load with, and on two cores has one. What it would compile, it can also do in Python.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "4")
    os.environ.setdefault("GPTQMODEL_DISABLE_PACK_EXT", "1")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    gptqmodel = import_module("gptqmodel")
    _shorten(model, out / "short")
    for name, case in CASES.items():
        if not (out / name / "config.json").is_file():
            config = gptqmodel.QuantizeConfig(**case, device="cpu", act_group_aware=False)
            loaded = gptqmodel.GPTQModel.load(str(out / "short"), config)
            loaded.quantize(_draw_tokens(loaded.model.config.vocab_size), batch_size=1)
            loaded.save(str(out / name))
        save_file(_dequantize(out / name), out / f"{name}.safetensors")
    (out / "version.txt").write_text(version("gptqmodel"), encoding="utf-8")


def _shorten(model: str, directory: Path) -> None:
    transformers = import_module("transformers")
    short = transformers.AutoModelForCausalLM.from_pretrained(model, num_hidden_layers=_BLOCKS)
    short.save_pretrained(directory)
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(directory)


def _draw_tokens(vocabulary: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (_CALLS, 1, _TOKENS), generator=generator)
    return [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in tokens]


def _dequantize(directory: Path) -> dict[str, Tensor]:
    gptqmodel = import_module("gptqmodel")
    loaded = gptqmodel.GPTQModel.load(
        str(directory), backend=gptqmodel.BACKEND.TORCH, device="cpu", dtype=torch.float16
    )
    layers = {name: module for name, module in loaded.model.named_modules() if hasattr(module, "dequantize_weight")}
    with torch.no_grad():
        return {name: layer.dequantize_weight().T.contiguous() for name, layer in layers.items()}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
