import inspect
import json

import pytest
from torch import nn

from incref.config.fp8 import FP8Config, get_default_fp8_config, get_default_fp8_config_set
from incref.config.fp8_methods import SCALE_METHODS, TARGETS
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.config.rtn import RTNConfig
from incref.config.scheme import LayerScheme
from incref.config.table import config_from_dict
from incref.errors import UnsupportedError
from incref.formats import FORMATS
from incref.nn.kv_cache import KVCache
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_channel, per_group


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc1 = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.lm_head = nn.Linear(4, 4)


def scheme(**fields: object) -> LayerScheme:
    found = FP8Config(**fields).scheme()  # type: ignore[arg-type]  # tests give them by name
    assert found is not None
    return found


def test_fields_and_defaults_are_those_of_neural_compressor() -> None:
    defaults = {name: getattr(FP8Config(), name) for name in inspect.signature(FP8Config).parameters}
    assert defaults == {
        "dump_stats_path": "./hqt_output/measure",
        "fp8_config": "E4M3",
        "hp_dtype": "bf16",
        "blocklist": {"names": [], "types": []},
        "allowlist": {"names": [], "types": ["Linear", "Conv1D", "Conv2d", "EmbeddingBag", "Matmul", "KVCache"]},
        "mode": "AUTO",
        "scale_method": "maxabs_hw",
        "scale_params": {},
        "observer": "maxabs",
        "mod_dict": {},
        "measure_exclude": "OUTPUT",
        "fake_quant": False,
        "use_qdq": False,
        "scale_format": "scalar",
        "measure_on_hpu": True,
        "white_list": "*",
        # Ours, and those that the peer takes without naming them.
        "dynamic_quantization": False,
        "target": "ocp",
    }
    assert get_default_fp8_config() == get_default_fp8_config_set() == FP8Config()


def test_targets() -> None:
    assert {name: target.e4m3.qmax for name, target in TARGETS.items()} == {"gaudi2": 240, "gaudi3": 448, "ocp": 448}
    assert TARGETS["gaudi2"].aligned == (1 / 256, 1 / 16, 1, 16)
    assert (TARGETS["gaudi3"].aligned[0], TARGETS["gaudi3"].aligned[-1]) == (2.0**-55, 2.0**7)
    assert len(TARGETS["gaudi3"].aligned) == 63
    assert scheme(target="gaudi2").weight.fmt is FORMATS["float8_e4m3"]
    assert scheme(target="gaudi3").weight.fmt is FORMATS["float8_e4m3fn"]
    assert scheme(target="gaudi2", fp8_config="E5M2").weight.fmt is FORMATS["float8_e5m2"]


def test_the_default_method_by_target() -> None:
    aligned = TARGETS["gaudi2"].aligned
    on_gaudi = scheme(target="gaudi2")
    assert on_gaudi.weight_scale == MaxAbsScale(value=ScaleValue.LISTED, backoff=0.5, choices=aligned)
    assert on_gaudi.input_scale == MaxAbsScale(value=ScaleValue.LISTED, backoff=0.25, choices=aligned)
    assert on_gaudi.is_static
    assert scheme().weight_scale == MaxAbsScale(value=ScaleValue.POWER_OF_TWO, backoff=0.5)
    assert scheme(scale_method="hw_aligned_single_scale", target="gaudi2").weight_scale == MaxAbsScale(
        value=ScaleValue.FIXED, choices=(16.0,)
    )
    assert scheme(scale_method="hw_aligned_single_scale", target="gaudi3").weight_scale == MaxAbsScale(
        value=ScaleValue.FIXED, choices=(128.0,)
    )


# facts: granularity and backoff of weights, then of inputs; of the methods of the peer.
TABLE = {
    "unit_scale": ("tensor", 1.0, "tensor", 1.0),
    "hw_aligned_single_scale": ("tensor", 1.0, "tensor", 1.0),
    "maxabs_hw": ("tensor", 0.5, "tensor", 0.25),
    "maxabs_pow2": ("tensor", 0.5, "tensor", 0.25),
    "maxabs_arbitrary": ("tensor", 0.5, "tensor", 0.25),
    "maxabs_hw_opt_weight": ("tensor", 0.5, "tensor", 0.25),
    "maxabs_pow2_opt_weight": ("tensor", 0.5, "tensor", 0.25),
    "act_maxabs_hw_weights_pcs_maxabs_pow2": ("channel", 0.5, "tensor", 0.25),
    "act_maxabs_hw_weights_pcs_opt_pow2": ("channel", 0.5, "tensor", 0.25),
    "act_maxabs_pow2_weights_pcs_maxabs_pow2": ("channel", 0.5, "tensor", 0.25),
    "act_maxabs_pow2_weights_pcs_opt_pow2": ("channel", 0.5, "tensor", 0.25),
    "maxabs_pcs_pow2": ("channel", 0.5, "token", 1.0),
    "act_maxabs_pcs_pow2_weight_maxabs_pts_pow2_hw": ("tensor", 0.5, "token", 1.0),
    # Not of the peer.
    "maxabs_pcs_arbitrary": ("channel", 1.0, "token", 1.0),
    "maxabs_blocks_arbitrary": ("block", 1.0, "group", 1.0),
    "maxabs_blocks_pow2": ("block", 1.0, "group", 1.0),
}
GRANULARITIES = {
    "tensor": PER_TENSOR,
    "channel": per_channel(),
    "token": PER_TOKEN,
    "block": per_block((128, 128)),
    "group": per_group(128),
}


@pytest.mark.parametrize("target", TARGETS)
def test_methods(target: str) -> None:
    assert list(SCALE_METHODS) == list(TABLE)
    for name, (weight, weight_backoff, activation, activation_backoff) in TABLE.items():
        found = scheme(scale_method=name, target=target)
        assert found.activation is not None
        assert found.weight_scale is not None
        assert found.input_scale is not None
        assert found.weight.granularity == GRANULARITIES[weight]
        assert found.activation.granularity == GRANULARITIES[activation]
        fixed = ("unit_scale", "hw_aligned_single_scale")
        if name not in fixed:
            assert found.weight_scale.backoff == weight_backoff
        if name not in fixed:
            assert found.input_scale.backoff == activation_backoff
        assert found.is_static == (activation == "tensor")


def test_dynamic() -> None:
    assert not scheme(dynamic_quantization=True).is_static


def test_lists() -> None:
    model = Model()
    assert list(FP8Config().resolve(model)) == ["conv", "fc1", "block.0", "lm_head"]
    assert list(FP8Config(blocklist={"names": ["lm_head"], "types": ("Conv2d",)}).resolve(model)) == ["fc1", "block.0"]
    assert list(FP8Config(allowlist={"names": ["bl.ck"], "types": []}).resolve(model)) == ["block.0"]
    assert list(FP8Config(allowlist={"names": [], "types": []}).resolve(model)) == ["conv", "fc1", "block.0", "lm_head"]
    assert FP8Config(mode="NONE").resolve(model) == {}


def test_empty_lists_mean_the_default_ones() -> None:
    model = nn.Sequential(nn.Embedding(8, 8), nn.EmbeddingBag(8, 8), nn.Linear(8, 8))
    assert list(FP8Config(allowlist={}).resolve(model)) == list(FP8Config().resolve(model)) == ["1", "2"]
    assert list(FP8Config(allowlist={"types": ["Embedding"]}).resolve(model)) == ["0"]


@pytest.mark.parametrize("field", ["blocklist", "allowlist"])
def test_what_a_list_names_is_there(field: str) -> None:
    typo = FP8Config(**{field: {"names": ["fc2"]}})  # type: ignore[arg-type]  # given by name
    with pytest.raises(ValueError, match=f"{field}: 'fc2' is found in no name of the model"):
        typo.plan(Model())
    with pytest.raises(ValueError, match=f"{field}: 'fc2' is found in no name of the model"):
        RTNConfig().set_local("fc1", typo).plan(Model())
    with pytest.raises(ValueError, match=f"{field}: no module of the model is of the class 'linear'; nearest: Linear"):
        FP8Config(**{field: {"types": ["linear"]}}).plan(Model())  # type: ignore[arg-type]  # likewise
    # What stays as it is may be named, and classes of the default list need not be there.
    FP8Config(blocklist={"names": ["block.1"], "types": ["ReLU", "EmbeddingBag"]}).plan(Model())


def test_convolutions_have_scales_of_channels_and_tensors() -> None:
    found = FP8Config(scale_method="maxabs_pcs_pow2", dynamic_quantization=True).resolve(Model())["conv"]
    assert found.weight.granularity == per_channel(0, ndim=4)
    assert found.activation is not None
    assert found.activation.granularity == PER_TENSOR


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fp8_config": "E3M4"}, "fp8_config must be one of E4M3, E5M2, got 'E3M4'"),
        ({"mode": "auto"}, "mode must be one of AUTO"),
        ({"scale_method": "maxabs"}, "scale_method must be one of unit_scale"),
        ({"target": "gaudi4"}, "target must be one of gaudi2, gaudi3, ocp"),
        ({"hp_dtype": "bfloat16"}, "hp_dtype must be one of bf16"),
        ({"blocklist": {"name": []}}, 'the keys "names" and "types"'),
        ({"allowlist": {"names": ["("]}}, "allowlist names layers by regular expressions"),
        ({"blocklist": {"names": "fc1"}}, r"blocklist\['names'\] is a list of strings, got 'fc1'"),
        ({"blocklist": {"types": [nn.Linear]}}, r"blocklist\['types'\] is a list of strings, got \[<class"),
        ({"scale_params": {"input_scale": 1.0}}, "scale_params has the keys weight_scales, got 'input_scale'"),
        ({"scale_params": {"weight_scales": [1.0]}}, "are for methods that search the scales of weights"),
        ({"scale_method": {"nodes": {}}}, 'scale_method must have a "default"'),
    ],
)
def test_wrong_values(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FP8Config(**fields)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("name", ["scale_params", "mod_dict"])
def test_wrong_types(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a dict, got 3"):
        FP8Config(**{name: 3})  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "fields",
    [
        {"fake_quant": True},
        {"mod_dict": {"A": "linear"}},
        {"observer": "save"},
        {"mode": "LOAD"},
    ],
)
def test_what_is_not_there(fields: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match=next(iter(fields))):
        FP8Config(**fields)  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize(
    "config",
    [
        FP8Config(blocklist={"names": ["a"], "types": ("Linear",)}, target="gaudi2"),
        FP8Config(scale_method={"default": {"weight": {"backoff": 0.5}}}),
        FP8Config(scale_method="maxabs_pow2_opt_weight", scale_params={"weight_scales": [0.5, 1.0]}),
    ],
)
def test_as_json(config: FP8Config) -> None:
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_search_over_methods() -> None:
    config = FP8Config(scale_method=["maxabs_hw", "maxabs_pow2"], target=["gaudi2", "ocp"])  # type: ignore[arg-type]
    assert [(one.scale_method, one.target) for one in config.expand()] == [
        ("maxabs_hw", "gaudi2"),
        ("maxabs_hw", "ocp"),
        ("maxabs_pow2", "gaudi2"),
        ("maxabs_pow2", "ocp"),
    ]


def test_other_scales_to_search() -> None:
    found = scheme(scale_method="maxabs_hw_opt_weight", target="gaudi2", scale_params={"weight_scales": [4, 0.5]})
    assert found.weight_scale == MaxAbsScale(value=ScaleValue.BEST_LISTED, backoff=0.5, choices=(0.5, 4.0))


def test_methods_of_some_layers() -> None:
    pcs = {"weight": {"granularity": "PCS", "rounding_method": "POW2"}, "activation": {"rounding_method": "POW2"}}
    described = {"default": {}, "nodes": {"block.0": pcs}, "layer_types": {"Conv2d": pcs}}
    found = FP8Config(scale_method=described).resolve(Model())
    granularities = {name: one.weight.granularity for name, one in found.items()}
    assert granularities == {
        "conv": per_channel(0, ndim=4),
        "fc1": PER_TENSOR,
        "block.0": per_channel(),
        "lm_head": PER_TENSOR,
    }
    with pytest.raises(ValueError, match="a node of scale_method is the name of a layer, and there is no 'fc2'"):
        FP8Config(scale_method={"default": {}, "nodes": {"fc2": pcs}}).resolve(Model())


def test_blocks_are_of_matrices() -> None:
    with pytest.raises(UnsupportedError, match=r"blocks of 128 x 128 weights are of matrices, got .* 4 dimensions"):
        FP8Config(scale_method="maxabs_blocks_pow2").resolve(Model())
    config = FP8Config(scale_method="maxabs_blocks_pow2", blocklist={"types": ["Conv2d"]})
    assert config.resolve(Model())["fc1"].weight.granularity == per_block((128, 128))


def test_caches_have_scales_of_tokens_or_static_ones() -> None:
    static = FP8Config().inputs_for("keys", KVCache())
    assert static is not None
    assert (static.is_static, static.activation.granularity) == (True, PER_TENSOR)
    dynamic = FP8Config(dynamic_quantization=True).inputs_for("keys", KVCache())
    assert dynamic is not None
    assert (dynamic.is_static, dynamic.activation.granularity) == (False, PER_TOKEN)
    assert FP8Config(mode="NONE").inputs_for("keys", KVCache()) is None
    assert FP8Config(blocklist={"types": ["KVCache"]}).inputs_for("keys", KVCache()) is None
