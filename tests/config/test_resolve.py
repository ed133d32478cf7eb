import pytest
from torch import nn

from incref.config.resolve import resolve
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.errors import LayerError


def model() -> nn.Module:
    return nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.ReLU(), "lm_head": nn.Linear(4, 4)})


def test_a_scheme_is_for_every_layer_but_heads() -> None:
    assert resolve(model(), SCHEMES["mxfp4"]) == {"a": SCHEMES["mxfp4"]}


def test_configurations_and_their_descriptions_are_the_same() -> None:
    want = RTNConfig(bits=8).resolve(model())
    assert resolve(model(), RTNConfig(bits=8)) == resolve(model(), {"rtn": {"bits": 8}}) == want
    assert resolve(model(), RTNConfig(bits=8).to_dict()) == want


def test_a_layer_that_does_not_fit_a_scheme_is_named() -> None:
    broken = model()
    broken.get_submodule("a").register_forward_hook(lambda *_: None)
    with pytest.raises(LayerError, match=r"^a: "):
        resolve(broken, SCHEMES["mxfp4"])


def test_anything_else_is_refused() -> None:
    with pytest.raises(
        TypeError, match="quant_config is a configuration such as RTNConfig, a LayerScheme or a dict, got 'mx"
    ):
        resolve(model(), "mxfp4")


def test_a_scheme_of_products_needs_some() -> None:
    with pytest.raises(ValueError, match="has no Matmul or KVCache; call expose_attention"):
        resolve(nn.Sequential(nn.Linear(32, 32)), SCHEMES["mxfp4_w4a4_attention"])
