"""Checkpoints of 4-bit weights on a Gaudi, on the simulator: what every layout becomes there."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from incref import GPTQConfig, RTNConfig, load, quantize, save
from incref.checkpoints.stamped import HPU_FILE
from incref.conformance.judge import assert_same_bits
from incref.errors import CheckpointError, UnsupportedError
from incref.formats.layouts import PackLayout
from incref.modules.layer import QuantLayer
from incref.workflow import load_huggingface
from incref_kernels.hpu.simulator.simulate import simulate
from tests.checkpoints.read_only import forbid_writing

transformers = pytest.importorskip("transformers")

IDS = torch.arange(12)[None]
LAYOUTS = {
    "gptq_v1": GPTQConfig(act_order=True, use_sym=True, scale_dtype="float16"),
    "gptq_v2": GPTQConfig(act_order=True, use_sym=False, scale_dtype="float16"),
    "awq": RTNConfig(use_sym=False, scale_dtype="float16"),
    "compressed-tensors": RTNConfig(scale_dtype="bfloat16"),
}


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> nn.Module:
    model: nn.Module = transformers.LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    return model


@pytest.fixture(scope="module", params=[("gptq_v1", "5GB"), *((name, "30KB") for name in LAYOUTS)], ids=str)
def checkpoint(request: pytest.FixtureRequest, llama: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout, size = request.param
    path = tmp_path_factory.mktemp("hpu") / "model"
    model = quantize(copy.deepcopy(llama), LAYOUTS[layout], lambda prepared: prepared(IDS))
    scale_dtype = "bfloat16" if layout == "compressed-tensors" else None
    save(model, path, format="huggingface", layout=layout, scale_dtype=scale_dtype, max_shard_size=size)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "checkpoint" in request.fixturenames:
        (request.getfixturevalue("checkpoint") / HPU_FILE).unlink(missing_ok=True)


def on_hpu(path: Path, **options: object) -> nn.Module:
    return load(path, format="huggingface", device="hpu", torch_dtype=torch.bfloat16, **options)  # type: ignore[arg-type]


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found


def layers(model: nn.Module) -> dict[str, QuantLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLayer)}


@pytest.mark.parametrize("has_group_index", [False, True])
def test_a_layer_computes_what_the_same_codes_do_elsewhere(checkpoint: Path, *, has_group_index: bool) -> None:
    reference = layers(load(checkpoint, format="huggingface", torch_dtype=torch.bfloat16))
    with simulate("gaudi2", has_group_index=has_group_index):
        for _ in range(2):
            loaded = layers(on_hpu(checkpoint))
            assert loaded.keys() == reference.keys()
            for name, layer in loaded.items():
                assert layer.kernel == "hpu weight_only_matmul"
                assert layer.qweight.layout is PackLayout.HPU
                one = torch.eye(layer.weight.shape[1], dtype=torch.bfloat16)
                assert_same_bits(layer(one), layer.weight.T + 0.0)
                assert_same_bits(layer.weight, rounded(reference[name]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU of NVIDIA's or AMD's")
def test_the_same_checkpoint_on_a_gpu(checkpoint: Path) -> None:
    reference = layers(load(checkpoint, format="huggingface", torch_dtype=torch.bfloat16))
    loaded = layers(load(checkpoint, format="huggingface", device="cuda", torch_dtype=torch.bfloat16))
    assert loaded.keys() == reference.keys()
    for name, layer in loaded.items():
        assert layer.weight.device.type == "cuda"
        assert_same_bits(layer.weight.cpu(), reference[name].weight)
    assert not (checkpoint / HPU_FILE).exists()


def rounded(layer: QuantLayer) -> torch.Tensor:
    """The weight with scales that the operator has rounded."""
    layer.weight_scale.copy_(layer.weight_scale.to(torch.bfloat16))
    return layer.weight


def test_words_are_taken_as_they_are(checkpoint: Path) -> None:
    with simulate("gaudi2"):
        on_hpu(checkpoint)
        kept = load_file(checkpoint / HPU_FILE)
        for name, layer in layers(on_hpu(checkpoint)).items():
            assert layer._product is not None  # type: ignore[attr-defined]
            words, scales, *_ = layer._product.prepared.tensors  # type: ignore[attr-defined]
            assert words.data_ptr() == layer.weight_packed.data_ptr()  # type: ignore[union-attr, operator]
            assert torch.equal(words, kept[f"{name}.qweight"])
            assert_same_bits(scales, kept[f"{name}.scales"])


def test_the_second_load_decodes_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with simulate("gaudi3"):
        first = logits(on_hpu(checkpoint))

        def decode(*_: object) -> None:
            raise AssertionError("a layer was decoded")

        codec = type(load_huggingface.find_codec(_quantization(checkpoint)))
        monkeypatch.setattr(codec, "decode", decode)
        assert_same_bits(logits(on_hpu(checkpoint)), first)


def test_a_checkpoint_that_can_not_be_written_to(
    llama: nn.Module, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path, llama, "gptq_v1")
    forbid_writing(monkeypatch, path)
    with simulate("gaudi3"):
        first = logits(on_hpu(path))
        (kept,) = cache.rglob(HPU_FILE)
        monkeypatch.setattr("incref.checkpoints.hpu.pack_hpu", None)
        assert_same_bits(logits(on_hpu(path)), first)
    assert not (path / HPU_FILE).exists()
    assert cache in kept.parents


def test_a_model_of_the_hub(llama: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    path = small(tmp_path, llama, "gptq_v2")
    # As the hub's client keeps it: every file is a link to what it holds.
    repository = tmp_path / "hub" / "models--org--model"
    snapshot, blobs, refs = repository / "snapshots" / ("0" * 40), repository / "blobs", repository / "refs"
    for folder in (snapshot, blobs, refs):
        folder.mkdir(parents=True)
    (refs / "main").write_text(snapshot.name)
    for file in path.iterdir():
        file.rename(blobs / f"of-{file.name}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"of-{file.name}")
    with simulate("gaudi3"):
        first = logits(load("org/model", format="huggingface", device="hpu", torch_dtype=torch.bfloat16))
        assert (snapshot / HPU_FILE).is_file()
        monkeypatch.setattr("incref.checkpoints.hpu.pack_hpu", None)
        assert_same_bits(logits(on_hpu(snapshot)), first)


def test_the_environment_says_where_a_checkpoint_goes(
    llama: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path, llama, "gptq_v2")
    monkeypatch.setenv("INCREF_TARGET_DEVICE", "hpu")
    with simulate("gaudi2"):
        found = load(path, format="huggingface", torch_dtype=torch.bfloat16)
    assert {layer.kernel for layer in layers(found).values()} == {"hpu weight_only_matmul"}
    assert (path / HPU_FILE).is_file()


def _quantization(path: Path) -> object:
    return load_huggingface._quantization(path, load_huggingface.read_json(path / "config.json"))


def small(tmp_path: Path, llama: nn.Module, layout: str, **options: object) -> Path:
    model = quantize(copy.deepcopy(llama), RTNConfig(**options))  # type: ignore[arg-type]
    save(model, tmp_path / "x", format="huggingface", layout=layout, scale_dtype="bfloat16")
    return tmp_path / "x"


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("layout", ["gptq_v1", "gptq_v2", "compressed-tensors"])
def test_other_widths_are_refused_or_left_as_they_are_stored(
    llama: nn.Module, tmp_path: Path, layout: str, bits: int
) -> None:
    path = small(tmp_path, llama, layout, bits=bits)
    with simulate("gaudi2"):
        with pytest.raises(CheckpointError, match=rf"down_proj: Gaudi dequantizes integers of 4 bits, got {bits}"):
            on_hpu(path)
        assert not (path / HPU_FILE).exists()
        loaded = on_hpu(path, fallback="reference")
    assert {layer.kernel for layer in layers(loaded).values()} == {"reference"}
    reference = load(path, format="huggingface", torch_dtype=torch.bfloat16)
    assert_same_bits(logits(loaded), logits(reference))


def test_awq_has_no_other_width(llama: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="AWQ checkpoints hold 4 bits, columns in order; got 3"):
        small(tmp_path, llama, "awq", bits=3)
    path = small(tmp_path, llama, "awq", use_sym=False)
    config = path / "config.json"
    config.write_text(config.read_text().replace('"bits": 4', '"bits": 3'))
    with simulate("gaudi2"), pytest.raises(CheckpointError, match="quantization_config: bits must be one of 4, got 3"):
        on_hpu(path, fallback="reference")


def test_a_zero_point_of_16(llama: nn.Module, tmp_path: Path) -> None:
    path = small(tmp_path, llama, "gptq_v1", use_sym=False)
    file = path / "model.safetensors"
    name = "model.layers.1.mlp.up_proj.qzeros"
    tensors = load_file(file)
    tensors[name][0, 0] |= 15
    save_file(tensors, file, metadata={"format": "pt"})
    with simulate("gaudi2"), pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj: version 1 of the format"):
        on_hpu(path, fallback="reference")
    assert not (path / HPU_FILE).exists()


def test_output_features_that_fill_no_words(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=36, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    model = quantize(transformers.LlamaForCausalLM(config).eval(), RTNConfig(group_size=-1))
    save(model, tmp_path / "x", format="huggingface", layout="compressed-tensors")
    with simulate("gaudi2"):
        with pytest.raises(
            CheckpointError, match=r"gate_proj: output features must be a multiple of 8 on Gaudi, got 36"
        ):
            on_hpu(tmp_path / "x")
        kernels = {name.rpartition(".")[2]: layer.kernel for name, layer in layers(_falling_back(tmp_path)).items()}
    assert kernels["up_proj"] == "reference"
    assert kernels["down_proj"] == kernels["q_proj"] == "hpu weight_only_matmul"


def _falling_back(tmp_path: Path) -> nn.Module:
    return on_hpu(tmp_path / "x", fallback="reference")


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_dtypes_that_the_operator_does_not_make(llama: nn.Module, tmp_path: Path, dtype: torch.dtype | None) -> None:
    path = small(tmp_path, llama, "gptq_v2")
    with (
        simulate("gaudi2"),
        pytest.raises(ValueError, match="Gaudi dequantizes to bfloat16 or float32: torch_dtype must be one of them"),
    ):
        load(path, format="huggingface", device="hpu", torch_dtype=dtype)


def test_no_gaudi_and_no_simulator(llama: nn.Module, tmp_path: Path) -> None:
    path = small(tmp_path, llama, "gptq_v2")
    with pytest.raises(UnsupportedError, match="habana_frameworks is not installed; INCREF_HPU_SIMULATOR=gaudi2"):
        on_hpu(path)
    assert not (path / HPU_FILE).exists()


def test_a_file_of_another_dtype_is_made_again(llama: nn.Module, tmp_path: Path) -> None:
    path = small(tmp_path, llama, "gptq_v2")
    with simulate("gaudi2"):
        narrow = layers(on_hpu(path))
        wide = layers(load(path, format="huggingface", device="hpu", torch_dtype=torch.float32))
    for name, layer in wide.items():
        assert layer.weight.dtype is torch.float32
        assert_same_bits(narrow[name].weight, layer.weight.to(torch.bfloat16))


def test_a_model_loaded_for_a_gaudi_is_saved_as_any_other(llama: nn.Module, tmp_path: Path) -> None:
    path = small(tmp_path, llama, "gptq_v2", use_sym=False)
    with simulate("gaudi2"):
        loaded = on_hpu(path)
        save(loaded, tmp_path / "own")
        save(loaded, tmp_path / "back", format="huggingface", layout="gptq_v2", scale_dtype="bfloat16")
        again = load(tmp_path / "own", device="hpu")
        assert_same_bits(logits(again), logits(loaded))
    for name, tensor in load_file(path / "model.safetensors").items():
        if not name.endswith(("norm.weight", "embed_tokens.weight", "layernorm.weight")):
            assert_same_bits(load_file(tmp_path / "back" / "model.safetensors")[name], tensor)
