from dataclasses import replace

import pytest

from incref.config.fp8_described import ScaleMethods, read_scale_methods, with_choices
from incref.config.fp8_methods import SCALE_METHODS, ScaleMethod

# What the named methods are in the words of the dict, weight first.
WORDS = {
    "unit_scale": "PTS FIXED_VALUE SCALE_UNIT, PTS FIXED_VALUE SCALE_UNIT",
    "hw_aligned_single_scale": "PTS FIXED_VALUE HW_ALIGNED_FIXED, PTS FIXED_VALUE HW_ALIGNED_FIXED",
    "maxabs_hw": "PTS MAXABS HW_ALIGNED, PTS MAXABS HW_ALIGNED",
    "maxabs_pow2": "PTS MAXABS POW2, PTS MAXABS POW2",
    "maxabs_arbitrary": "PTS MAXABS IDENTITY, PTS MAXABS IDENTITY",
    "maxabs_hw_opt_weight": "PTS OPT HW_ALIGNED, PTS MAXABS HW_ALIGNED",
    "maxabs_pow2_opt_weight": "PTS OPT POW2, PTS MAXABS POW2",
    "act_maxabs_hw_weights_pcs_maxabs_pow2": "PCS MAXABS POW2, PTS MAXABS HW_ALIGNED",
    "act_maxabs_hw_weights_pcs_opt_pow2": "PCS OPT POW2, PTS MAXABS HW_ALIGNED",
    "act_maxabs_pow2_weights_pcs_maxabs_pow2": "PCS MAXABS POW2, PTS MAXABS POW2",
    "act_maxabs_pow2_weights_pcs_opt_pow2": "PCS OPT POW2, PTS MAXABS POW2",
    "maxabs_pcs_pow2": "PCS MAXABS POW2, PCS MAXABS POW2",
    "act_maxabs_pcs_pow2_weight_maxabs_pts_pow2_hw": "PTS MAXABS HW_ALIGNED, PCS MAXABS POW2",
    "maxabs_pcs_arbitrary": "PCS MAXABS IDENTITY, PCS MAXABS IDENTITY",
    "maxabs_blocks_arbitrary": "PBS MAXABS IDENTITY, PBS MAXABS IDENTITY",
    "maxabs_blocks_pow2": "PBS MAXABS POW2, PBS MAXABS POW2",
}


def side(words: str, **others: object) -> dict[str, object]:
    return {**dict(zip(("granularity", "scale_value_type", "rounding_method"), words.split(), strict=True)), **others}


def entry(name: str, weight_backoff: float = 1.0, activation_backoff: float = 1.0) -> dict[str, object]:
    weight, activation = WORDS[name].split(", ")
    return {"weight": side(weight, backoff=weight_backoff), "activation": side(activation, backoff=activation_backoff)}


def test_every_method_can_be_described() -> None:
    assert list(WORDS) == list(SCALE_METHODS)
    for name, method in SCALE_METHODS.items():
        described = entry(name, method.weight_backoff, method.activation_backoff)
        assert read_scale_methods({"default": described}).default == method


def test_what_is_left_out() -> None:
    found = read_scale_methods({"default": {}}).default
    assert found == replace(SCALE_METHODS["maxabs_arbitrary"], weight_backoff=1.0, activation_backoff=1.0)
    # Of the default, in an entry of another section; the case of a name does not matter.
    described = {
        "default": {"weight": {"rounding_method": "pow2", "backoff": 0.5}, "activation": {"rounding_method": "POW2"}},
        "layers": {"3": {"weight": {"granularity": "pcs"}}},
    }
    found = read_scale_methods(described).layers["3"]
    assert found == replace(SCALE_METHODS["act_maxabs_pow2_weights_pcs_maxabs_pow2"], activation_backoff=1.0)


def test_nodes_go_before_layers_before_types_before_the_default() -> None:
    names = ("unit_scale", "maxabs_hw", "maxabs_pow2", "maxabs_arbitrary")
    default, kind, layer, node = (SCALE_METHODS[name] for name in names)
    methods = ScaleMethods(
        default=default, layer_types={"Linear": kind}, layers={"1": layer}, nodes={"model.layers.1.fc": node}
    )

    def of(name: str, of_kind: str) -> ScaleMethod:
        return methods.of(name, of_kind)

    assert of("model.layers.1.fc", "Linear") is node
    assert of("model.layers.1.fc2", "Linear") is layer
    assert of("model.layers.11.fc", "Linear") is kind
    assert of("model.layers.11.fc", "Matmul") is default
    assert of("head", "Linear") is kind


def test_choices() -> None:
    method = SCALE_METHODS["maxabs_pow2_opt_weight"]
    assert with_choices(method, {}) is method
    assert with_choices(method, {"weight_scales": [2, 0.25]}).weight_choices == (0.25, 2.0)
    described = {"weight": side("PCS OPT POW2", params={"weight_scales": [1.0]}), "activation": side("PTS MAXABS POW2")}
    assert read_scale_methods({"default": described}).default.weight_choices == (1.0,)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({}, 'scale_method must have a "default", got {}'),
        ({"default": {}, "node": {}}, "scale_method has the keys default, nodes, layers, layer_types, got 'node'"),
        ({"default": {"weights": {}}}, "default has the keys weight, activation, got 'weights'"),
        ({"default": {"weight": {"rounding": "POW2"}}}, "default, weight has the keys granularity, .*, got 'rounding'"),
        ({"default": {"weight": "POW2"}}, "scale_method, default: a dict is needed, got 'POW2'"),
        ({"default": {"weight": {"granularity": 1}}}, "granularity, type and rounding are names, got"),
        ({"default": {"weight": {"backoff": 2}}}, r"backoff must be in \(0, 1\], got 2"),
        ({"default": {"activation": {"params": {"a": 1}}}}, "params of activation has the keys .none., got 'a'"),
        (
            {"default": {}, "nodes": {"fc": {"weight": {"rounding_method": "POW2"}}}},
            r"nodes\['fc'\]: weight PTS MAXABS POW2 with activation PTS MAXABS IDENTITY is not one of the combinations",
        ),
        ({"default": {"weight": {"params": {"weight_scales": [1.0]}}}}, "weight_scales are for methods that search"),
        ({"default": {"weight": {"params": {"weight_scales": [3.0]}}}}, "weight_scales must be powers of two"),
        ({"default": {"weight": {"params": {"weight_scales": []}}}}, "weight_scales must be powers of two"),
    ],
)
def test_what_means_nothing(described: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_scale_methods(described)
