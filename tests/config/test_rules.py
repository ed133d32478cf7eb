import pytest
import torch
from torch import nn

from incref.config.rules import (
    NameMatch,
    NameRule,
    TypeRule,
    as_rule,
    check_layer,
    is_head,
    quantizable_layers,
    require_matches,
)
from incref.errors import LayerError


class Derived(nn.Linear):
    pass


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return 2 * super().forward(input)


LAYER = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("fc1", "fc1", True),
        ("fc1", "fc10", False),
        ("fc1", "block.fc1", False),
        ("fc1", "fc1.inner", True),
        ("model.layers.0", "model.layers.0.mlp.up", True),
        ("model.layers.1", "model.layers.10.mlp.up", False),
        (".*v_proj", "model.layers.3.v_proj", True),
        (".*v_proj", "model.layers.3.v_proj_extra", False),
        (r".*\.(q|k)_proj", "model.layers.3.k_proj", True),
        ("a|b", "b", True),
        ("a|b", "ab", False),
        (".*", "anything.at.all", True),
        ("block[0]", "block[0]", True),
    ],
)
def test_name_rule(pattern: str, name: str, matches: bool) -> None:
    assert NameRule(pattern).matches(name, LAYER) is matches


@pytest.mark.parametrize(
    ("how", "name", "matches"),
    [
        (NameMatch.PREFIX, "fc1", True),
        (NameMatch.PREFIX, "fc10", True),
        (NameMatch.PREFIX, "mlp.fc1", False),
        (NameMatch.SEARCH, "mlp.fc10", True),
        (NameMatch.SEARCH, "mlp.fc2", False),
        (NameMatch.FULL, "fc1", True),
        (NameMatch.FULL, "fc1.inner", False),
        (NameMatch.LAYER, "fc1.inner", True),
        (NameMatch.LAYER, "fc10", False),
    ],
)
def test_how_a_name_is_matched(how: NameMatch, name: str, matches: bool) -> None:
    assert as_rule("fc1", how).matches(name, LAYER) is matches


def test_type_rule_speaks_of_derived_classes_too() -> None:
    assert as_rule(nn.Linear).matches("x", Derived(4, 4))
    assert as_rule(nn.Linear).matches("x", LAYER)
    assert not as_rule(Derived).matches("x", LAYER)
    assert as_rule(nn.Linear) == TypeRule("torch.nn.modules.linear.Linear")


def test_as_rule() -> None:
    rule = NameRule("x")
    assert as_rule(rule) is rule
    assert as_rule("x") == rule
    for wrong in (3, int, None, ["x"]):
        with pytest.raises(TypeError, match="a rule is the name of a layer, a regular expression or a module class"):
            as_rule(wrong)


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got '\(': missing"):
        NameRule("(")


@pytest.mark.parametrize("name", ["lm_head", "model.lm_head", "output_layer", "gpt.embed_out"])
def test_heads(name: str) -> None:
    assert is_head(name)
    assert not is_head(name + ".x")
    assert not is_head(name + "s")


def test_layers_are_the_linear_ones_that_nothing_else_reads() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 4),
            "derived": Derived(4, 4),
            "own_forward": Doubled(4, 4),
            "conv": nn.Conv1d(4, 4, 1),
            "embedding": nn.Embedding(4, 4),
            "tied": nn.Linear(4, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "inner": nn.Sequential(nn.ReLU(), nn.Linear(4, 2)),
            "normed": torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        }
    )
    model["tied"].weight = model["embedding"].weight
    assert list(quantizable_layers(model)) == ["linear", "derived", "inner.1"]


def test_two_linear_layers_may_share_a_weight() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert list(quantizable_layers(model)) == ["0", "1"]


def test_a_model_that_is_a_layer_is_refused() -> None:
    with pytest.raises(LayerError, match=r"put this one in an nn\.Sequential"):
        quantizable_layers(nn.Linear(4, 4))


def test_weights_that_cannot_be_quantized_are_named() -> None:
    check_layer("fc", LAYER)
    with pytest.raises(
        LayerError, match=r"fc: a weight must have elements, got shape \(4, 0\); leave it alone with set_local"
    ):
        check_layer("fc", _empty())
    with pytest.raises(LayerError, match=r"fc: a weight must be one of .*, got torch\.complex64 of shape \(4, 4\)"):
        check_layer("fc", nn.Linear(4, 4, dtype=torch.complex64))


def _empty() -> nn.Linear:
    layer = nn.Linear(1, 4)
    layer.weight = nn.Parameter(torch.empty(4, 0))
    return layer


def test_hooks_are_not_dropped_silently() -> None:
    layer = nn.Linear(4, 4)
    handle = layer.register_forward_hook(lambda *_: None)
    with pytest.raises(LayerError, match="fc: a layer that is replaced would lose its hooks"):
        check_layer("fc", layer)
    handle.remove()
    check_layer("fc", layer)


def test_a_rule_that_matches_nothing_names_its_neighbours() -> None:
    layers = {"encoder.q_proj": LAYER, "encoder.k_proj": LAYER}
    require_matches([NameRule("encoder"), as_rule(nn.Linear)], layers)
    with pytest.raises(
        ValueError, match=r"'q_prj' matches none of the 2 that can be quantized; nearest: encoder\.q_proj"
    ):
        require_matches([NameRule("q_prj")], layers)
    with pytest.raises(ValueError, match=r"'torch\.nn\.modules\.conv\.Conv1d' matches none"):
        require_matches([as_rule(nn.Conv1d)], layers)
    with pytest.raises(ValueError, match=r"matches none of the 0 that can be quantized$"):
        require_matches([NameRule("x")], {})
