import copy
import json
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.workflow.prepare import prepare
from incref.workflow.quantize import quantize
from incref.workflow.save import save


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 64)
        self.fc = nn.Linear(64, 64)
        self.norm = nn.BatchNorm1d(64)
        self.lm_head = nn.Linear(64, 16, bias=False)
        self.lm_head.weight = self.embedding.weight
        self.register_buffer("transient", torch.arange(3.0), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.lm_head(self.norm(self.fc(self.embedding(ids))))
        return out


def quantized() -> nn.Module:
    torch.manual_seed(0)
    return quantize(Model().eval(), SCHEMES["mxfp4"])


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def test_the_directory_holds_tensors_and_their_description(tmp_path: Path) -> None:
    save(quantized(), tmp_path / "x")
    assert names(tmp_path) == ["x"]
    assert names(tmp_path / "x") == ["incref.json", "model.safetensors"]


def test_tensors_are_stored_packed_and_once(tmp_path: Path) -> None:
    model = quantized()
    save(model, tmp_path / "x")
    stored = load_file(tmp_path / "x" / "model.safetensors")
    assert set(stored) == {
        "embedding.weight",
        "fc.bias",
        "fc.weight_packed",
        "fc.weight_scale",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "transient",
    }
    assert (stored["fc.weight_packed"].dtype, stored["fc.weight_packed"].shape) == (torch.uint8, (64, 32))
    described = json.loads((tmp_path / "x" / "incref.json").read_text())
    assert described["aliases"] == {"lm_head.weight": "embedding.weight"}
    assert list(described["transient"]) == ["transient"]
    assert list(described["layers"]) == ["fc"]
    assert described["layers"]["fc"]["weight"]["spec"]["fmt"] == "mxfp4"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        save(quantized(), tmp_path / name)
    for file in names(tmp_path / "x"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_views_that_are_not_contiguous_are_stored(tmp_path: Path) -> None:
    model = quantize(nn.Sequential(nn.Linear(8, 8), nn.Conv1d(2, 3, 1)), RTNConfig())
    model.register_buffer("view", torch.arange(6.0).view(2, 3).T)
    save(model, tmp_path / "x")
    stored = load_file(tmp_path / "x" / "model.safetensors")
    assert torch.equal(stored["view"], torch.arange(6.0).view(2, 3).T)


def test_a_second_save_replaces_the_first_and_keeps_other_files(tmp_path: Path) -> None:
    save(quantized(), tmp_path / "x")
    (tmp_path / "x" / "tokenizer.json").write_text("{}")
    torch.manual_seed(1)
    save(quantize(Model(), RTNConfig(bits=8)), tmp_path / "x")
    assert names(tmp_path / "x") == ["incref.json", "model.safetensors", "tokenizer.json"]
    described = json.loads((tmp_path / "x" / "incref.json").read_text())
    assert described["layers"]["fc"]["weight"]["spec"]["fmt"] == "int8"


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(quantized())
    assert names(tmp_path) == ["saved_results"]


def test_a_model_that_is_only_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prepared and not converted yet; call convert first"):
        save(prepare(Model(), RTNConfig()), tmp_path / "x")
    assert names(tmp_path) == []


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be one of default, huggingface, got 'vllm'"):
        save(quantized(), tmp_path / "x", format="vllm")


def test_a_converted_model_saves_itself_and_so_does_its_copy(tmp_path: Path) -> None:
    model = quantized()
    other = copy.deepcopy(model)
    other.fc.bias.data.fill_(7.0)
    model.save(tmp_path / "model")
    other.save(tmp_path / "other")
    assert torch.equal(load_file(tmp_path / "model" / "model.safetensors")["fc.bias"], model.fc.bias)
    assert (load_file(tmp_path / "other" / "model.safetensors")["fc.bias"] == 7.0).all()
    again = pickle.loads(pickle.dumps(other))  # noqa: S301  # what was pickled here
    again.save(tmp_path / "again")
    assert (load_file(tmp_path / "again" / "model.safetensors")["fc.bias"] == 7.0).all()
    alive, method = weakref.ref(model), model.save
    del model
    assert alive() is None
    with pytest.raises(ReferenceError, match="keep it in a variable"):
        method(tmp_path / "gone")
