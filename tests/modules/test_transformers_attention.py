"""Attention of transformers models, quantized."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from incref.config.fp8 import FP8Config
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.errors import UnsupportedError
from incref.modules.matmul import QuantMatmul
from incref.modules.transformers_attention import expose_attention
from incref.nn.attention import Attention
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.prepare import prepare
from incref.workflow.save import save

transformers = pytest.importorskip("transformers")
TOKENS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(TOKENS)
MASK[0, :7] = 0


@pytest.fixture
def llama(tiny_llama: Path) -> nn.Module:
    model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama, attn_implementation="eager").eval()
    return model


@torch.no_grad()
def logits(model: nn.Module, **options: object) -> Tensor:
    found: Tensor = model(input_ids=TOKENS, **options).logits
    return found


def test_the_float_model_computes_what_it_did(llama: nn.Module) -> None:
    want, padded = logits(llama), logits(llama, attention_mask=MASK)
    assert expose_attention(llama) is llama
    assert torch.equal(logits(llama), want)
    assert torch.equal(logits(llama, attention_mask=MASK), padded)
    # Again: nothing is added twice.
    names = [name for name, module in expose_attention(llama).named_modules() if isinstance(module, Attention)]
    assert names == [f"model.layers.{i}.self_attn.incref_attention" for i in range(2)]


def test_generates(llama: nn.Module) -> None:
    want = llama.generate(TOKENS[:, :5], max_new_tokens=8, do_sample=False)
    assert torch.equal(expose_attention(llama).generate(TOKENS[:, :5], max_new_tokens=8, do_sample=False), want)


def test_products_are_quantized(llama: nn.Module) -> None:
    config = RTNConfig(dtype="fp32").set_local(
        ".*incref_attention", MXQuantConfig(act_dtype="mxfp8_e4m3", round_method="even", out_dtype="float32")
    )
    before = logits(llama)
    converted = convert(expose_attention(llama), config)
    assert [name for name, module in converted.named_modules() if isinstance(module, QuantMatmul)] == [
        f"model.layers.{layer}.self_attn.incref_attention.{product}" for layer in range(2) for product in ("qk", "pv")
    ]
    assert not torch.equal(logits(converted), before)
    # Padding is not seen, and no NaN comes of it.
    assert bool(logits(converted, attention_mask=MASK).isfinite().all())


def test_static_scales_of_factors(llama: nn.Module, tmp_path: Path) -> None:
    config = FP8Config(scale_method="maxabs_pow2", dump_stats_path=str(tmp_path / "measure"))
    prepared = prepare(expose_attention(llama), config)
    logits(prepared)
    converted = convert(prepared)
    product = converted.get_submodule("model.layers.0.self_attn.incref_attention.pv")
    assert isinstance(product, QuantMatmul)
    # Every first query sees one key, with probability 1: backoff 0.25 of 448, rounded up to a power of two.
    assert converted.get_buffer("model.layers.0.self_attn.incref_attention.pv.x_scale").item() == 2.0**-6
    save(converted, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert torch.equal(logits(loaded), logits(converted))
    assert torch.equal(logits(load(tmp_path / "saved", original_model=llama_again(tmp_path))), logits(converted))


def llama_again(tmp_path: Path) -> nn.Module:
    config = transformers.AutoConfig.from_pretrained(tmp_path / "saved")
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(config).eval()
    return model


def test_models_without_the_interface() -> None:
    with pytest.raises(UnsupportedError, match="Sequential has no attention that asks transformers"):
        expose_attention(nn.Sequential(nn.Linear(2, 2)))


def test_models_whose_attention_can_not_be_set(llama: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(llama), "_can_set_attn_implementation", lambda _: False)
    for part in llama.modules():
        monkeypatch.setattr(type(part), "_can_set_attn_implementation", lambda _: False, raising=False)
    with pytest.raises(UnsupportedError, match="does not let its attention be set: LlamaAttention asks for 'eager'"):
        expose_attention(llama)


def test_layers_that_were_not_exposed(llama: nn.Module, tiny_llama: Path) -> None:
    expose_attention(llama)
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama)
    other.set_attn_implementation("incref_attention")
    with pytest.raises(UnsupportedError, match="LlamaAttention has no incref_attention; call expose_attention"):
        logits(other)
