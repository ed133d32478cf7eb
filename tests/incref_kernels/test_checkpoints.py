"""A checkpoint gives every backend the same weights, in whatever layout it holds them."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from incref import GPTQConfig, RTNConfig, load, quantize, save
from incref.backends.discovery import available_backends
from incref.conformance.judge import assert_same_bits
from incref.modules.layer import QuantLayer
from incref_kernels.hpu.simulator.simulate import simulate

transformers = pytest.importorskip("transformers")

IDS = torch.arange(12)[None]
LAYOUTS = {
    "gptq_v1": GPTQConfig(act_order=True, scale_dtype="float16"),
    "gptq_v2": GPTQConfig(act_order=True, use_sym=False, scale_dtype="float16"),
    "awq": RTNConfig(use_sym=False, scale_dtype="float16"),
    "compressed-tensors": RTNConfig(use_sym=False, scale_dtype="float16"),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def checkpoint(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layouts") / request.param
    model = transformers.LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    model = quantize(copy.deepcopy(model), LAYOUTS[request.param], lambda prepared: prepared(IDS))
    save(model, path, format="huggingface", layout=request.param)
    return path


def layers(path: Path, backend: str | None = None) -> dict[str, QuantLayer]:
    model: nn.Module = load(path, format="huggingface", torch_dtype=torch.bfloat16, backend=backend)
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLayer)}


# Triton's are the kernels for CUDA; without a GPU they are compiled for the CPU, if what that takes is installed.
@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_a_layer_multiplies_by_the_weight_of_the_reference(checkpoint: Path, backend: str) -> None:
    if reason := available_backends()[backend]:
        pytest.skip(reason)
    reference, found = layers(checkpoint), layers(checkpoint, backend)
    assert found.keys() == reference.keys()
    for name, layer in found.items():
        assert layer.kernel == f"{backend} weight_only_matmul"
        # A product with the identity is the weight, in whatever order it is added; +0 stands for -0.
        one = torch.eye(layer.weight.shape[1], dtype=torch.bfloat16)
        assert_same_bits(layer(one), reference[name].weight.T + 0.0)


def test_every_layout_gives_the_same_logits(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = transformers.LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    model = quantize(model, RTNConfig(use_sym=False, scale_dtype="bfloat16"))
    options = {"format": "huggingface", "torch_dtype": torch.bfloat16}
    found: list[torch.Tensor] = []
    for layout in LAYOUTS:
        path = tmp_path / layout
        save(model, path, format="huggingface", layout=layout, scale_dtype="bfloat16")
        found.append(logits(load(path, **options)))
        with simulate("gaudi3"):
            found.append(logits(load(path, device="hpu", backend="reference", **options)))
    for one in found:
        assert_same_bits(one, found[0])


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found
