import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from incref.checkpoints.files import file_digest
from incref.config.mx import MXQuantConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError, UnsupportedError
from incref.modules.linear import QuantLinear
from incref.workflow.load import load
from incref.workflow.quantize import quantize
from incref.workflow.save import save

IDS = torch.arange(16).view(2, 8)


class Model(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 64)
        self.fc = nn.Linear(64, width)
        self.act = nn.PReLU()
        self.out = nn.Linear(width, 64, bias=False)
        self.lm_head = nn.Linear(64, 16, bias=False)
        self.lm_head.weight = self.embedding.weight
        self.register_buffer("shift", torch.ones(1), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.lm_head(self.out(self.act(self.fc(self.embedding(ids) + self.shift))))
        return x


def quantized(config: QuantConfig, width: int = 64) -> nn.Module:
    torch.manual_seed(0)
    model = Model(width)
    model.shift.fill_(0.25)
    return quantize(model, config, lambda prepared: prepared(IDS))


CONFIGS: dict[str, QuantConfig] = {
    # The model has no products of two inputs.
    **{name: scheme for name, scheme in SCHEMES.items() if scheme.inputs is None},
    "rtn": RTNConfig(bits=3, use_sym=False, group_size=24),
    "nf4": RTNConfig(dtype="nf4", group_dim=0),
    "mx": MXQuantConfig(w_dtype="fp4", act_dtype="fp8_e4m3", blocksize=16),
    "mixed": RTNConfig().set_local("out", MXQuantConfig(w_dtype="int4")).set_local("fc", RTNConfig(dtype="fp32")),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_gives_the_same_model_back(config: QuantConfig, device: str, tmp_path: Path) -> None:
    model = quantized(config, width=70)
    save(model, tmp_path)
    with torch.device(device):
        original = Model(70)
    loaded = load(tmp_path, original)
    assert torch.equal(loaded(IDS), model(IDS))
    assert repr(loaded) == repr(model)
    assert loaded.lm_head.weight is loaded.embedding.weight
    assert loaded.state_dict().keys() == model.state_dict().keys()


def test_the_original_is_not_changed(tmp_path: Path) -> None:
    save(quantized(SCHEMES["mxfp4"]), tmp_path)
    original = Model()
    before = {name: (t.data_ptr(), t.clone()) for name, t in original.state_dict().items()}
    loaded = load(tmp_path, original)
    assert type(original.fc) is nn.Linear
    for name, tensor in original.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert torch.equal(tensor, before[name][1])
    ours = {t.data_ptr() for t in (*original.parameters(), *original.buffers())}
    assert ours.isdisjoint(t.data_ptr() for t in (*loaded.parameters(), *loaded.buffers()))


def test_stored_dtypes_win(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = quantize(Model().to(torch.bfloat16), SCHEMES["int8"])
    save(model, tmp_path)
    loaded = load(tmp_path, Model())
    assert loaded.embedding.weight.dtype is torch.bfloat16
    assert loaded.fc.weight_scale.dtype is torch.float32
    assert torch.equal(loaded(IDS), model(IDS))


@pytest.mark.parametrize("device", ["cuda:99", "hip", "nonsense"])
def test_a_device_that_is_not_there_is_named(device: str, tmp_path: Path) -> None:
    save(quantized(RTNConfig()), tmp_path)
    with pytest.raises(UnsupportedError, match=f"nothing can be put on the device '{device}': "):
        load(tmp_path, Model(), device=device)
    with pytest.raises(UnsupportedError, match=f"nothing can be put on the device '{device}': "):
        load("org/model", format="huggingface", device=device)
    with pytest.raises(UnsupportedError, match=f"nothing can be put on the device '{device}': "):
        quantize(Model(), RTNConfig(), device=device)


def test_tensors_go_to_the_device(tmp_path: Path) -> None:
    save(quantized(SCHEMES["nvfp4"]), tmp_path)
    loaded = load(tmp_path, Model(), device=torch.device("cpu"))
    assert {t.device.type for t in (*loaded.parameters(), *loaded.buffers())} == {"cpu"}


def test_gradients_are_wanted_where_the_original_wants_them(tmp_path: Path) -> None:
    save(quantized(SCHEMES["mxfp4"]), tmp_path)
    original = Model()
    original.act.weight.requires_grad_(False)  # noqa: FBT003
    loaded = load(tmp_path, original)
    wanted = {name: p.requires_grad for name, p in loaded.named_parameters()}
    assert wanted == {"embedding.weight": True, "fc.bias": True, "act.weight": False}


def test_a_layer_under_two_names(tmp_path: Path) -> None:
    def make() -> nn.Module:
        shared = nn.Linear(8, 8)
        return nn.Sequential(shared, nn.ReLU(), shared)

    model = quantize(make(), RTNConfig())
    save(model, tmp_path)
    loaded = load(tmp_path, make())
    x = torch.ones(1, 8)
    assert torch.equal(loaded(x), model(x))
    assert loaded[0].weight_packed.data_ptr() == loaded[2].weight_packed.data_ptr()


def test_transformers_need_no_original(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = quantize(transformers.LlamaForCausalLM(config).eval(), SCHEMES["mxfp8_e4m3_w8a8"])
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert isinstance(loaded.model.layers[0].mlp.up_proj, QuantLinear)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    ids = torch.arange(9)[None]
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    described = json.loads((tmp_path / "incref.json").read_text())
    (tmp_path / "incref.json").write_text(json.dumps({**described, "architecture": "AutoConfig"}))
    with pytest.raises(CheckpointError, match="transformers has no model class 'AutoConfig'; pass original_model"):
        load(tmp_path)
    (tmp_path / "incref.json").write_text(json.dumps(described))
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json; pass original_model"):
        load(tmp_path)


def test_other_models_need_their_original(tmp_path: Path) -> None:
    save(quantized(SCHEMES["int8"]), tmp_path)
    with pytest.raises(CheckpointError, match="a model that is not of transformers; pass original_model"):
        load(tmp_path)


def _truncate(path: Path) -> None:
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:-7])


def _flip_a_bit(path: Path) -> None:
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)


def _mix_two_saves(path: Path) -> None:
    description = (path / "incref.json").read_bytes()
    save(quantized(RTNConfig(bits=8)), path)
    (path / "incref.json").write_bytes(description)


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, _mix_two_saves])
def test_files_that_do_not_belong_together_are_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    save(quantized(SCHEMES["int4_g32"]), tmp_path)
    damage(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"is not the file that incref\.json describes: it is truncated, was changed"
    ):
        load(tmp_path, Model())


@pytest.mark.parametrize("file", ["incref.json", "model.safetensors"])
def test_missing_files_are_named(file: str, tmp_path: Path) -> None:
    save(quantized(SCHEMES["int8"]), tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=f"has no {file}; give a directory that incref.save wrote"):
        load(tmp_path, Model())


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match=r"nowhere has no incref\.json"):
        load("nowhere", Model())


def _sign(path: Path) -> None:
    """Make the description belong to the tensors again."""
    described = json.loads((path / "incref.json").read_text())
    described["sha256"] = {"model.safetensors": file_digest(path / "model.safetensors")}
    (path / "incref.json").write_text(json.dumps(described))


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    save(quantized(SCHEMES["int8"]), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a header at all")
    _sign(tmp_path)
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load(tmp_path, Model())


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("fc.weight_scale", None, "fc: a quantized tensor can't be restored"),
        ("fc.weight_packed", "fc.weight_packed", r"fc: .*packed must be torch\.uint8 of shape"),
        ("act.weight", None, r"the file has no act\.weight; pass the original_model that was quantized"),
        (None, "extra.weight", r"the model has no extra\.weight"),
        ("act.weight", "act.weight", r"act\.weight: the saved tensor has shape \(3,\), not \(1,\)"),
        ("embedding.weight", None, r"lm_head\.weight is another name of embedding\.weight, which .* does not have"),
        ("fc.bias", "fc.bias", r"fc: the bias must have shape \(64,\), got \(3,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(drop: str | None, add: str | None, message: str, tmp_path: Path) -> None:
    save(quantized(SCHEMES["int4_g32"]), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if drop is not None:
        del tensors[drop]
    if add is not None:
        tensors[add] = torch.ones(3)
    save_file(tensors, tmp_path / "model.safetensors")
    _sign(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, Model())


@pytest.mark.parametrize(
    ("original", "message"),
    [
        (nn.Sequential(nn.Linear(64, 64)), "the model has no layer fc; pass the original_model that was quantized"),
        (Model(32), r"fc: the saved weight has shape \(64, 64\), and the model's \(32, 64\)"),
    ],
    ids=["another structure", "another width"],
)
def test_an_original_that_does_not_fit(original: nn.Module, message: str, tmp_path: Path) -> None:
    save(quantized(SCHEMES["int8"]), tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, original)


def test_a_quantized_original_is_refused(tmp_path: Path) -> None:
    model = quantized(SCHEMES["int8"])
    save(model, tmp_path)
    with pytest.raises(
        CheckpointError, match=r"fc must be a Linear or Conv2d or .* or Conv1D, got QuantLinear; pass the float model"
    ):
        load(tmp_path, model)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    save(quantized(SCHEMES["int8"]), tmp_path)
    described = json.loads((tmp_path / "incref.json").read_text())
    (tmp_path / "incref.json").write_text(json.dumps({**described, "version": 7}))
    with pytest.raises(CheckpointError, match="has version 7, and this incref reads version 2; update incref"):
        load(tmp_path, Model())


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be one of default, huggingface, got 'vllm'"):
        load(tmp_path, Model(), format="vllm")
