import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from incref.errors import UnsupportedError
from incref.formats import FORMATS
from incref.modules.transformers_cache import quantized_cache
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.qtensor.parts import fake_quantize
from incref.qtensor.spec import QuantSpec

transformers = pytest.importorskip("transformers")
TOKENS = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(0))
E4M3 = QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=PER_TOKEN)


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> nn.Module:
    model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    return model


@torch.no_grad()
def test_keeps_what_a_float_cache_keeps_quantized(llama: nn.Module) -> None:
    exact, cache = transformers.DynamicCache(config=llama.config), quantized_cache(llama.config)
    for columns in ((0, 7), (7, 8), (8, 12)):
        tokens = TOKENS[:, slice(*columns)]
        llama(input_ids=tokens, past_key_values=exact)
        llama(input_ids=tokens, past_key_values=cache)
        assert cache.get_seq_length() == exact.get_seq_length()
    # The first layer is fed the same.
    stored = cache.layers[0].stored
    for kept, codes in zip((exact.layers[0].keys, exact.layers[0].values), stored, strict=True):
        assert torch.equal(codes.read(torch.float32), fake_quantize(kept, E4M3))
        assert codes.codes is not None
        assert codes.codes.dtype is torch.uint8
        assert codes.nbytes < kept.nbytes / 3


@torch.no_grad()
def test_one_call_and_many_keep_the_same(llama: nn.Module) -> None:
    # In double precision no value is so near a midpoint that another order of summation turns its code.
    llama = copy.deepcopy(llama).double()
    whole, steps = (quantized_cache(llama.config, "mxfp8_e4m3") for _ in range(2))
    want = llama(input_ids=TOKENS, past_key_values=whole).logits
    got = torch.cat([llama(input_ids=TOKENS[:, i : i + 1], past_key_values=steps).logits for i in range(12)], dim=1)
    for layer, other in zip(whole.layers, steps.layers, strict=True):
        for kept, appended in zip(layer.stored, other.stored, strict=True):
            assert torch.equal(kept.read(torch.float64), appended.read(torch.float64))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}], ids=str)
def test_generates(llama: nn.Module, options: dict[str, object]) -> None:
    transformers.set_seed(0)
    cache = quantized_cache(llama.config, "e5m2", scales=(0.5, 0.25))
    made = llama.generate(TOKENS[:, :4], max_new_tokens=5, past_key_values=cache, **{"do_sample": False, **options})
    assert made.shape[1] == 9
    assert cache.get_seq_length() == 8


@torch.no_grad()
def test_static_scales(llama: nn.Module) -> None:
    cache, exact = quantized_cache(llama.config, scales=(0.5, 0.25)), transformers.DynamicCache(config=llama.config)
    for one in (cache, exact):
        llama(input_ids=TOKENS, past_key_values=one)
    spec = QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=PER_TENSOR)
    keys, values = (stored.read(torch.float32) for stored in cache.layers[0].stored)
    assert torch.equal(keys, fake_quantize(exact.layers[0].keys, spec, torch.tensor(0.5)))
    assert torch.equal(values, fake_quantize(exact.layers[0].values, spec, torch.tensor(0.25)))


@torch.no_grad()
def test_cropped_selected_and_reset(llama: nn.Module) -> None:
    cache = quantized_cache(llama.config)
    llama(input_ids=TOKENS, past_key_values=cache)
    layer = cache.layers[1]
    before = layer.stored[0].read(torch.float32)
    layer.crop(0)
    layer.crop(-2)
    layer.batch_select_indices(torch.tensor([1]))
    layer.batch_repeat_interleave(3)
    layer.offload()
    layer.prefetch()
    assert torch.equal(layer.stored[0].read(torch.float32), before[[1, 1, 1], :, :-2])
    assert (layer.get_seq_length(), layer.keys.shape[0]) == (10, 3)
    cache.reset()
    assert cache.get_seq_length() == 0
    llama(input_ids=TOKENS, past_key_values=cache)
    assert torch.equal(layer.stored[0].read(torch.float32), before)


def test_what_can_not_be(llama: nn.Module) -> None:
    with pytest.raises(ValueError, match="what grows has a static scale"):
        quantized_cache(llama.config, "nvfp4")
    mistral = transformers.MistralConfig(num_hidden_layers=2, sliding_window=8)
    with pytest.raises(UnsupportedError, match="layers that keep all keys and values, got DynamicSlidingWindowLayer"):
        quantized_cache(mistral)
