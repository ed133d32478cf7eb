import runpy
from pathlib import Path

import pytest
import torch

from incref import GPTQConfig, quantize, save
from incref.evaluation.huggingface import copy_tokenizer

EXAMPLE = Path(__file__).parents[2] / "examples" / "load_gptq_checkpoint.py"


@pytest.mark.parametrize("layout", ["gptq_v1", "gptq_v2"])
def test_generates_with_a_checkpoint(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.LlamaForCausalLM.from_pretrained(tiny_llama)
    ids = torch.arange(64).view(4, 16)
    model = quantize(model, GPTQConfig(act_order=True), lambda prepared: prepared(input_ids=ids))
    save(model, tmp_path, format="huggingface", layout=layout, scale_dtype="float16")
    copy_tokenizer(tiny_llama, tmp_path)
    example = runpy.run_path(str(EXAMPLE))
    example["main"]([str(tmp_path), "--device", "cpu", "--prompt", "abc", "--tokens", "4"])
    layer, text = capsys.readouterr().out.split("\n", 1)
    assert "weight=int4" in layer
    assert text.startswith("abc")
    loaded = example["load_checkpoint"](str(tmp_path), "cpu")
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            stored = loaded.get_submodule(name).qweight
            scale = module.qweight.scale.to(torch.float16).to(torch.float32)
            assert torch.equal(stored.scale, scale)
            assert torch.equal(stored.dequantize(torch.bfloat16), loaded.get_submodule(name).weight)
