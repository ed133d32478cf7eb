"""Saving and loading models in the layouts that serving engines read, as a whole."""

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from incref.checkpoints.foreign import CheckpointLayout, encode_layers
from incref.checkpoints.stored import StoredLayer
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.formats import FORMATS
from incref.modules.layer import QuantLayer
from incref.modules.linear import QuantLinear
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec
from incref.workflow.load import load
from incref.workflow.prepare import prepare
from incref.workflow.quantize import quantize
from incref.workflow.save import save

transformers = pytest.importorskip("transformers")

IDS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> nn.Module:
    model: nn.Module = transformers.LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    return model


def quantized(model: nn.Module, config: QuantConfig) -> nn.Module:
    return quantize(copy.deepcopy(model), config, lambda prepared: prepared(IDS))


def rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with scales as they are after saving."""
    for module in model.modules():
        if isinstance(module, QuantLayer):
            module.weight_scale.copy_(module.weight_scale.to(dtype))
    return model


@pytest.mark.parametrize(
    ("config", "layout", "scale_dtype"),
    [
        (RTNConfig(), "gptq_v1", "float16"),
        (RTNConfig(bits=3, group_size=-1), "gptq_v1", "bfloat16"),
        (RTNConfig(bits=8, use_sym=False), "gptq_v2", "float16"),
        (GPTQConfig(act_order=True, use_sym=False), "gptq_v2", "float16"),
        (RTNConfig(use_sym=False), "awq", "float16"),
        (RTNConfig(use_sym=False), "compressed-tensors", None),
        (RTNConfig().set_local(".*mlp", RTNConfig(dtype="fp32")), "compressed-tensors", None),
        (RTNConfig().set_local(".*mlp", RTNConfig(dtype="mxfp8_e4m3")), "compressed-tensors", None),
        (SCHEMES["fp8_e4m3_w8a8"], "compressed-tensors", None),
        (FP8Config(scale_method="maxabs_arbitrary"), "compressed-tensors", None),
        (SCHEMES["mxfp4"], "compressed-tensors", None),
    ],
    ids=str,
)
def test_a_saved_model_computes_the_same_again(
    llama: nn.Module, config: QuantConfig, layout: str, scale_dtype: str | None, tmp_path: Path
) -> None:
    model = quantized(llama, config)
    save(model, tmp_path, format="huggingface", layout=layout, scale_dtype=scale_dtype, max_shard_size="30KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    loaded = load(tmp_path, format="huggingface", torch_dtype=torch.float32)
    want = model if scale_dtype is None else rounded(model, getattr(torch, scale_dtype))
    if isinstance(config, FP8Config):
        # Its inputs are multiplied by the reciprocal of their scale, which the layout has no words for.
        assert {m.input_scale.item() for m in loaded.modules() if isinstance(m, QuantLayer)} == {
            m.input_scale.item() for m in model.modules() if isinstance(m, QuantLayer)
        }
        for module in loaded.modules():
            if isinstance(module, QuantLayer):
                module.activation = model.get_submodule("model.layers.0.mlp.up_proj").activation
    assert torch.equal(loaded(IDS).logits, want(IDS).logits)
    assert not loaded.training
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert {type(m) for m in loaded.modules()} == {type(m) for m in model.modules()}
    if isinstance(config, FP8Config):
        return
    again = load(tmp_path, llama, format="huggingface", torch_dtype="float32")
    assert torch.equal(again(IDS).logits, want(IDS).logits)


def test_transformers_computes_what_we_do(llama: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="needs compressed-tensors")
    for name, config, dtype in (
        ("int4", RTNConfig(), torch.float32),
        ("uint4", RTNConfig(use_sym=False), torch.float32),
        ("fp8", SCHEMES["fp8_e4m3_w8a8"], torch.float32),
        ("mxfp4", SCHEMES["mxfp4"], torch.bfloat16),
    ):
        save(quantized(llama, config), tmp_path / name, format="huggingface", layout="compressed-tensors")
        # Left compressed, it has no room for zero points (5.23).
        how = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)} if name == "uint4" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=dtype, **how).eval()
        ours = load(tmp_path / name, format="huggingface", torch_dtype=dtype)
        with torch.no_grad():
            assert torch.equal(ours(IDS).logits, theirs(IDS).logits), name


@pytest.fixture(scope="module")
def checkpoint(llama: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in GPTQ's second format, in several files."""
    path = tmp_path_factory.mktemp("gptq") / "model"
    config = GPTQConfig(act_order=True, use_sym=False)
    save(
        quantized(llama, config),
        path,
        format="huggingface",
        layout="gptq_v2",
        scale_dtype="float16",
        max_shard_size="30KB",
    )
    return path


@pytest.fixture
def damaged(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "x"))


def test_dtypes(checkpoint: Path) -> None:
    stored = load(checkpoint, format="huggingface")
    assert stored.model.norm.weight.dtype is torch.float32
    assert stored.model.layers[0].mlp.up_proj.weight.dtype is torch.float16
    half = load(checkpoint, format="huggingface", torch_dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    layer = half.model.layers[0].mlp.up_proj
    assert (layer.weight.dtype, layer.weight_scale.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(layer.weight_scale, stored.model.layers[0].mlp.up_proj.weight_scale)
    auto = load(checkpoint, format="huggingface", torch_dtype="auto")
    assert auto.model.norm.weight.dtype is torch.float32
    with pytest.raises(ValueError, match='torch_dtype must be "auto" or one of'):
        load(checkpoint, format="huggingface", torch_dtype="int8")


def test_the_original_is_not_changed(llama: nn.Module, checkpoint: Path) -> None:
    before = {name: (t.data_ptr(), t.clone()) for name, t in llama.state_dict().items()}
    loaded = load(checkpoint, llama, format="huggingface")
    for name, tensor in llama.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert torch.equal(tensor, before[name][1])
    ours = {t.data_ptr() for t in (*llama.parameters(), *llama.buffers())}
    assert ours.isdisjoint(t.data_ptr() for t in (*loaded.parameters(), *loaded.buffers()))


def test_from_one_format_to_the_others(llama: nn.Module, checkpoint: Path, tmp_path: Path) -> None:
    del llama
    first = load(checkpoint, format="huggingface")
    save(first, tmp_path / "own")
    own = load(tmp_path / "own")
    assert torch.equal(own(IDS).logits, first(IDS).logits)
    save(own, tmp_path / "back", format="huggingface", layout="gptq_v2")
    for path in checkpoint.glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            again = load_file(tmp_path / "back" / "model.safetensors")[name]
            assert torch.equal(again, tensor)
            assert again.dtype is tensor.dtype


def test_what_config_json_says(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["quantization_config"]["quant_method"] == "gptq"
    autogptq = json.loads((checkpoint / "quantize_config.json").read_text())
    assert autogptq.items() <= config["quantization_config"].items()
    assert (autogptq["bits"], autogptq["desc_act"], autogptq["sym"]) == (4, True, False)


@pytest.mark.parametrize("file", ["quantize_config.json", "quant_config.json"])
def test_models_whose_config_json_says_nothing(damaged: Path, file: str) -> None:
    config = json.loads((damaged / "config.json").read_text())
    del config["quantization_config"]
    (damaged / "config.json").write_text(json.dumps(config))
    description = json.loads((damaged / "quantize_config.json").read_text())
    (damaged / "quantize_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no quantization_config in config\.json, so the model is not quantized"):
        load(damaged, format="huggingface")
    del description["quant_method"]
    (damaged / file).write_text(json.dumps(description))
    assert isinstance(load(damaged, format="huggingface").model.layers[0].mlp.up_proj, QuantLinear)


def test_conv1d_of_transformers(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=64, n_embd=64, n_layer=1, n_head=2, n_positions=32)
    torch.manual_seed(0)
    model = quantized(transformers.GPT2LMHeadModel(config).eval(), RTNConfig())
    save(model, tmp_path, format="huggingface", layout="gptq_v1", scale_dtype="float16")
    loaded = load(tmp_path, format="huggingface", torch_dtype=torch.float32)
    assert isinstance(loaded.transformer.h[0].mlp.c_fc, QuantLinear)
    assert torch.equal(loaded(IDS).logits, rounded(model, torch.float16)(IDS).logits)


@pytest.mark.parametrize("config", [RTNConfig, GPTQConfig])
def test_models_quantized_for_the_layout_are_saved_exactly(
    llama: nn.Module, config: type[RTNConfig | GPTQConfig], tmp_path: Path
) -> None:
    for dtype in ("float16", "bfloat16"):
        for use_mse_search in (False, True):
            made = config(scale_dtype=dtype, use_sym=False, use_mse_search=use_mse_search)
            model = quantized(llama, made)
            save(model, tmp_path / dtype, format="huggingface", layout="compressed-tensors", scale_dtype=dtype)
            loaded = load(tmp_path / dtype, format="huggingface", torch_dtype=torch.float32)
            assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    save(model_in(llama, config), tmp_path / "gptq", format="huggingface", layout="gptq_v2")


def model_in(llama: nn.Module, config: type[RTNConfig | GPTQConfig]) -> nn.Module:
    return quantized(llama, config(scale_dtype="float16"))


def test_scales_that_the_layout_does_not_hold(llama: nn.Module, tmp_path: Path) -> None:
    model = quantized(llama, RTNConfig())
    with pytest.raises(CheckpointError, match=r"model\.layers\.0\.self_attn\.q_proj: scales must be float16 numbers"):
        save(model, tmp_path / "x", format="huggingface", layout="gptq_v1")
    assert list(tmp_path.iterdir()) == []


def test_a_new_save_leaves_nothing_of_the_old_one(llama: nn.Module, damaged: Path) -> None:
    (damaged / "tokenizer.json").write_text("{}")
    model = quantized(llama, SCHEMES["mxfp4"])
    save(model, damaged, format="huggingface", layout="compressed-tensors")
    kept = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in damaged.iterdir()} == kept
    save(model, damaged, max_shard_size="30KB")
    names = {path.name for path in damaged.iterdir()}
    assert "model.safetensors" not in names
    assert {"incref.json", "model.safetensors.index.json"} < names
    assert torch.equal(load(damaged)(IDS).logits, model(IDS).logits)
    save(model, damaged, format="huggingface", layout="compressed-tensors")
    assert {path.name for path in damaged.iterdir()} == kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "huggingface"}, 'layout is for format="huggingface", which needs one'),
        ({"layout": "awq"}, 'layout is for format="huggingface", which needs one'),
        ({"scale_dtype": "float16"}, "scale_dtype is for that format too"),
        ({"format": "huggingface", "layout": "gguf"}, "'gguf' is not a valid CheckpointLayout"),
        ({"format": "huggingface", "layout": "awq", "scale_dtype": "float64"}, "scale_dtype must be one of"),
        ({"max_shard_size": "lots"}, "a size is a positive number of bytes"),
    ],
)
def test_arguments_that_mean_nothing(llama: nn.Module, tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save(llama, tmp_path / "x", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_models_that_are_not_of_transformers(tmp_path: Path) -> None:
    model = quantize(nn.Sequential(nn.Linear(32, 32)), RTNConfig())
    with pytest.raises(ValueError, match="only models of transformers have these layouts, got Sequential"):
        save(model, tmp_path / "x", format="huggingface", layout="awq")
    with pytest.raises(ValueError, match="prepared and not converted yet"):
        save(prepare(nn.Sequential(nn.Linear(32, 32)), RTNConfig()), tmp_path / "x", format="huggingface", layout="awq")


def test_layers_that_the_layouts_have_no_words_for(llama: nn.Module, tmp_path: Path) -> None:
    from incref.config.mx import MXQuantConfig  # noqa: PLC0415

    with pytest.raises(CheckpointError, match="these layouts have no words for how its input is rounded"):
        save(quantized(llama, MXQuantConfig()), tmp_path / "x", format="huggingface", layout="compressed-tensors")


def test_default_checkpoints_have_no_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='torch_dtype and weights_only are for format="huggingface"'):
        load(tmp_path, torch_dtype="auto")


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "../up", "org/na me"])
def test_names_that_are_neither_a_directory_nor_one_of_the_hub(name: str) -> None:
    with pytest.raises(CheckpointError, match="a model is a directory, or a name of the hub such as org/model"):
        load(name, format="huggingface")


def test_names_of_the_hub_are_fetched(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if name == "org/other":
            raise OSError("offline")
        return str(checkpoint)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert isinstance(load("org/model", format="huggingface").model.layers[0].mlp.up_proj, QuantLinear)
    assert asked == [("org/model", ["*.safetensors", "*.json", "*.txt", "*.model"])]
    with pytest.raises(CheckpointError, match="org/other is no directory here, and the hub does not give it: offline"):
        load("org/other", format="huggingface")


def test_a_layer_under_two_names(tmp_path: Path) -> None:
    shared = nn.Linear(32, 32, bias=False)
    original = nn.Sequential(shared, nn.ReLU(), shared)
    weight = QTensor.quantize(shared.weight.detach(), QuantSpec(fmt=FORMATS["int4"], scale_dtype=torch.float16))
    layers = {name: StoredLayer(weight=weight) for name in ("0", "2")}
    tensors, config = encode_layers(layers, [], CheckpointLayout.GPTQ_V2)
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load(tmp_path, original, format="huggingface")
    assert loaded[0] is loaded[2]
    assert torch.equal(loaded[0].qweight.dequantize(torch.float32), weight.dequantize())
    save_file({**tensors, "2.scales": tensors["2.scales"] * 2}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="0 and 2 are one layer in the model, and differ in the checkpoint"):
        load(tmp_path, original, format="huggingface")


UP = "model.layers.0.mlp.up_proj"


def _edit(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    """Change the tensors of the file that holds a layer's weight, and the index with them."""

    def damage(path: Path) -> None:
        index = json.loads((path / "model.safetensors.index.json").read_text())
        file = index["weight_map"][f"{UP}.qweight"]
        tensors = load_file(path / file)
        change(tensors)
        save_file(tensors, path / file)
        others = {name: where for name, where in index["weight_map"].items() if where != file}
        index["weight_map"] = others | dict.fromkeys(tensors, file)
        (path / "model.safetensors.index.json").write_text(json.dumps(index))

    return damage


def _describe(**changes: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        config["quantization_config"].update(changes)
        (path / "config.json").write_text(json.dumps(config))

    return damage


def _configure(**changes: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, **changes}))

    return damage


def _truncate(path: Path) -> None:
    file = next(path.glob("model-00002*"))
    file.write_bytes(file.read_bytes()[:-9])


def _lose_a_file(path: Path) -> None:
    next(path.glob("model-00002*")).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "is not a whole safetensors file"),
        (_lose_a_file, "every file of weight_map must be there, missing: model-00002"),
        (_edit(lambda t: t.pop(f"{UP}.qzeros")), f"{UP}: qzeros must be .* and there is none"),
        (_edit(lambda t: t.update({f"{UP}.qweight": torch.zeros(3, 3)})), f"{UP}: qweight must be torch.int32"),
        (_edit(lambda t: t.update({f"{UP}.bias": torch.zeros(128)})), f"{UP}: the model's layer has no bias, and the"),
        (
            _edit(lambda t: t.update({key: t[key].to(torch.int8) for key in t if "norm" in key})),
            r"norm\.weight: the model has torch.float32 there, and the checkpoint torch.int8",
        ),
        (_edit(lambda t: t.update({"nobody.qweight": torch.zeros(1)})), "has a quantized layer nobody, and the model"),
        (_edit(lambda t: t.update({"model.norm.qweight": torch.zeros(1)})), "model.norm must be a linear layer, got"),
        (_edit(lambda t: t.update({"nobody.weight": torch.zeros(1)})), r"the model has no nobody\.weight"),
        (
            _edit(lambda t: t.update({"lm_head.weight": torch.zeros(256, 64)})),
            "are one tensor in the model, and differ",
        ),
        (_describe(quant_method="hqq"), "quant_method must be gptq, awq or compressed-tensors, got 'hqq'"),
        (_describe(bits=7), "bits must be one of 2, 3, 4, 8, got 7"),
        (_describe(bits=8), "qweight must be .* of shape"),
        (_describe(group_size=64), r"qzeros must be .* of shape"),
        (_configure(quantization_config="gptq"), "quantization_config must be an object, got 'gptq'"),
        (_configure(quantization_config=[]), "quantization_config must be an object"),
        (_configure(architectures=["AutoConfig"]), "transformers has no model class 'AutoConfig'; pass original_model"),
        (_configure(architectures=None), "transformers has no model class ''"),
        (_configure(model_type="nothing known"), r"config\.json: transformers can't read it"),
        (_configure(hidden_size=32), "must be"),
        (lambda path: (path / "config.json").write_text("{"), "must be JSON that can be read"),
    ],
)
def test_damaged_checkpoints_are_refused(damaged: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(damaged)
    with pytest.raises(CheckpointError, match=message):
        load(damaged, format="huggingface")


def test_codes_that_have_lost_their_scale_are_no_weights(llama: nn.Module, tmp_path: Path) -> None:
    save(quantized(llama, SCHEMES["fp8_e4m3_w8a8"]), tmp_path, format="huggingface", layout="compressed-tensors")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[f"{UP}.weight_scale"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{UP}\.weight: .* the checkpoint torch\.float8_e4m3fn; codes of a"):
        load(tmp_path, format="huggingface")


def test_no_code_of_a_checkpoint_is_run(damaged: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(ran)!r}).write_text('')\n"
    (damaged / "modeling_evil.py").write_text(code)
    (damaged / "configuration_evil.py").write_text(code)
    evil = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    _configure(auto_map=evil)(damaged)
    load(damaged, format="huggingface")
    _configure(auto_map=evil, model_type="evil")(damaged)
    with pytest.raises(CheckpointError, match="transformers can't read it"):
        load(damaged, format="huggingface")
    assert not ran.exists()
