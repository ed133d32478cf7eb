import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError, UnsupportedError
from incref.evaluation.huggingface import (
    check_directory,
    copy_tokenizer,
    fingerprint,
    load_any,
    load_model,
    load_tokenizer,
    read_config,
    stop_ids,
)
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.save import save


@pytest.fixture
def copied(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_model_comes_in_float32(copied: Path) -> None:
    weights = copied / "model.safetensors"
    save_file({name: t.bfloat16() for name, t in load_file(weights).items()}, weights, metadata={"format": "pt"})
    change_json(copied / "config.json", dtype="bfloat16")
    model = load_model(copied)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: a model is a local directory .* this is not there"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="this is a file"):
        load_model(tmp_path / "file")


def test_directory_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must have a config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize(("content", "message"), [("{", "must be JSON"), ("[]", "must hold a JSON object, got list")])
def test_config_that_is_no_object(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path)


def test_pickles_are_not_read(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"must be in safetensors files, got pytorch_model\.bin"):
        load_model(copied)
    (copied / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="found no safetensors file"):
        load_model(copied)


@pytest.mark.parametrize("kept", [0, 7, 200, 40_000])
def test_truncated_weights(copied: Path, kept: int) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        check_directory(copied)


def test_missing_shard(copied: Path) -> None:
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"every file of weight_map must be there, missing: model-2\.safetensors"):
        check_directory(copied)


def test_missing_weights_are_not_made_up(copied: Path) -> None:
    weights = copied / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing keys: model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(copied)


def test_weights_of_another_shape(copied: Path) -> None:
    change_json(copied / "config.json", intermediate_size=96)
    with pytest.raises(CheckpointError):
        load_model(copied)


def test_unknown_architecture(copied: Path) -> None:
    change_json(copied / "config.json", model_type="nonesuch")
    with pytest.raises(CheckpointError, match="can't load a causal language model"):
        load_model(copied)


def test_code_beside_a_checkpoint_is_not_run(copied: Path) -> None:
    change_json(copied / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Mine"})
    witness = copied / "ran"
    (copied / "mine.py").write_text(f"open({str(witness)!r}, 'w')")
    with pytest.raises(CheckpointError):
        load_model(copied)
    assert not witness.exists()


def test_quantized_model_of_another_library(copied: Path) -> None:
    change_json(copied / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(CheckpointError, match=r"must have float weights, and is quantized already \(gptq\)"):
        load_model(copied)


def test_directory_without_a_tokenizer(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_tokenizer(copied)


def test_tokens_and_back(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    ids = tokenizer.encode("a b", add_special_tokens=False)
    assert len(ids) == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a b"


def test_transformers_has_to_be_installed(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules makes the import fail as if it were not there.
    monkeypatch.setitem(sys.modules, "transformers", None)
    for load in (load_model, load_tokenizer):
        with pytest.raises(UnsupportedError, match=r"pip install 'incref\[hf\]'"):
            load(tiny_llama)


@pytest.mark.parametrize(
    ("generation", "config", "want"),
    [
        ({"eos_token_id": [1, 2]}, {}, {1, 2}),
        ({}, {"eos_token_id": 3}, {3}),
        (None, {"eos_token_id": 3}, {3}),
        ({}, {}, set()),
    ],
)
def test_stop_ids(tmp_path: Path, generation: object, config: object, want: set[int]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert stop_ids(tmp_path) == want


def test_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "a").write_text("y")
    second = fingerprint(tmp_path)
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, fingerprint(tmp_path)}) == 3


def test_float_and_quantized_directories(tiny_llama: Path, tmp_path: Path) -> None:
    quantized = convert(load_model(tiny_llama), SCHEMES["int8"])
    save(quantized, tmp_path / "saved")
    copy_tokenizer(tiny_llama, tmp_path / "saved")
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        for directory, model in ((tiny_llama, load_model(tiny_llama)), (tmp_path / "saved", quantized)):
            loaded = load_any(directory)
            assert torch.equal(loaded(input_ids=tokens).logits, model(input_ids=tokens).logits)
    assert any(isinstance(module, QuantLinear) for module in load_any(tmp_path / "saved").modules())


def test_weights_are_not_copied_with_the_tokenizer(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in (
        "model.safetensors",
        "pytorch_model.bin",
        "model.safetensors.index.json",
        "tokenizer.json",
        "config.json",
    ):
        (source / name).write_text("source")
    (target / "config.json").write_text("target")
    copy_tokenizer(source, target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "tokenizer.json": "source",
        "config.json": "target",
    }
