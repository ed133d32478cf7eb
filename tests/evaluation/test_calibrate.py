import math
from pathlib import Path

import pytest
import torch

from incref.config.schemes import SCHEMES
from incref.errors import UnsupportedError
from incref.evaluation.calibrate import convert_with_text
from incref.evaluation.huggingface import load_model
from incref.evaluation.perplexity import window_nll
from incref.modules.linear import QuantLinear
from incref.modules.matmul import QuantMatmul
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.prepare import find_plan
from incref.workflow.save import save

TOKENS = torch.randint(0, 256, (6, 32), generator=torch.Generator().manual_seed(0))


def test_schemes_without_calibration_look_at_no_text(tiny_llama: Path) -> None:
    got = convert_with_text(load_model(tiny_llama), SCHEMES["mxfp4"], None, inplace=True)
    want = convert(load_model(tiny_llama), SCHEMES["mxfp4"])
    assert torch.equal(window_nll(got, TOKENS), window_nll(want, TOKENS))


def test_calibration_serves_the_text_that_it_saw(tiny_llama: Path) -> None:
    model = load_model(tiny_llama)
    seen: list[None] = []
    calibrated = convert_with_text(
        model, SCHEMES["gptq_mxfp4"], TOKENS, inplace=False, on_window=lambda: seen.append(None)
    )
    assert len(seen) == len(TOKENS)
    assert find_plan(model) is None
    assert not any(isinstance(module, QuantLinear) for module in model.modules())
    with torch.no_grad():
        want = model(input_ids=TOKENS).logits
        rounded = convert(model, SCHEMES["mxfp4"])(input_ids=TOKENS).logits
        got = calibrated(input_ids=TOKENS).logits
    assert float((got - want).square().mean()) < float((rounded - want).square().mean())


@pytest.mark.parametrize("tokens", [None, TOKENS[:0]])
def test_calibration_needs_text(tiny_llama: Path, tokens: torch.Tensor | None) -> None:
    with pytest.raises(UnsupportedError, match="give at least one window"):
        convert_with_text(load_model(tiny_llama), SCHEMES["gptq_mxfp4"], tokens, inplace=True)


def test_attention_of_the_model_stays_as_it_is(tiny_llama: Path, tmp_path: Path) -> None:
    model = load_model(tiny_llama)
    before = window_nll(model, TOKENS)
    scheme = SCHEMES["mxfp4_w4a4_attention"]
    converted = convert_with_text(model, scheme, None, inplace=False)
    assert torch.equal(window_nll(model, TOKENS), before)
    products = [name for name, module in converted.named_modules() if isinstance(module, QuantMatmul)]
    assert len(products) == 4
    without = convert_with_text(model, SCHEMES["mxfp4_w4a4"], None, inplace=False)
    after = window_nll(converted, TOKENS)
    assert not torch.equal(after, window_nll(without, TOKENS))
    save(converted, tmp_path)
    assert torch.equal(window_nll(load(tmp_path), TOKENS), after)
    at_once = convert_with_text(load_model(tiny_llama), scheme, None, inplace=True)
    assert torch.equal(window_nll(at_once, TOKENS), after)


@pytest.mark.parametrize("name", ["fp8_e4m3_static", "fp8_gaudi2_static"])
def test_static_inputs(tiny_llama: Path, name: str) -> None:
    model = load_model(tiny_llama)
    converted = convert_with_text(model, SCHEMES[name], TOKENS, inplace=False)
    layer = converted.get_submodule("model.layers.0.self_attn.q_proj")
    assert isinstance(layer, QuantLinear)
    assert layer.input_scale is not None
    with torch.no_grad():
        got, want = (m(input_ids=TOKENS).logits for m in (converted, model))
    # Input and weight of 7 layers a block are each off by at most 2^-4, and these errors add as independent ones do.
    factors = 2 * 7 * len(model.get_submodule("model.layers"))  # type: ignore[arg-type]  # a list of blocks
    assert 0 < float((got - want).norm() / want.norm()) < math.sqrt(factors) * 2**-4
