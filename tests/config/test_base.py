import json
from pathlib import Path

import pytest
import yaml
from torch import nn

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.errors import LayerError


class Special(nn.Linear):
    pass


def model() -> nn.Module:
    return nn.ModuleDict(
        {
            "fc1": nn.Linear(8, 8),
            "fc10": nn.Linear(8, 8),
            "block": nn.ModuleDict({"up": nn.Linear(8, 8), "down": Special(8, 8)}),
            "lm_head": nn.Linear(8, 8),
        }
    )


def bits_of(config: BaseConfig) -> dict[str, str]:
    return {name: scheme.weight.fmt.name for name, scheme in config.resolve(model()).items()}


def test_the_configuration_speaks_of_all_layers_but_heads() -> None:
    assert bits_of(RTNConfig()) == {"fc1": "int4", "fc10": "int4", "block.up": "int4", "block.down": "int4"}
    assert bits_of(RTNConfig(quant_lm_head=True))["lm_head"] == "int4"
    assert list(bits_of(MXQuantConfig())) == ["fc1", "fc10", "block.up", "block.down", "lm_head"]


def test_a_name_means_the_whole_name() -> None:
    assert bits_of(RTNConfig().set_local("fc1", RTNConfig(bits=8))) == {
        "fc1": "int8",
        "fc10": "int4",
        "block.up": "int4",
        "block.down": "int4",
    }


def test_names_win_over_classes_and_later_rules_over_earlier_ones() -> None:
    config = RTNConfig()
    config.set_local("block.down", RTNConfig(bits=8))
    config.set_local(Special, RTNConfig(bits=2))
    assert bits_of(config)["block.down"] == "int8"
    config.set_local("block", RTNConfig(bits=3))
    assert (bits_of(config)["block.down"], bits_of(config)["block.up"]) == ("int3", "int3")
    config = RTNConfig().set_local(nn.Linear, RTNConfig(bits=2)).set_local(Special, RTNConfig(bits=5))
    assert (bits_of(config)["block.down"], bits_of(config)["fc1"]) == ("int5", "int2")


def test_fp32_leaves_a_layer_alone() -> None:
    config = RTNConfig().set_local([".*up", Special], RTNConfig(dtype="fp32"))
    assert list(bits_of(config)) == ["fc1", "fc10"]
    assert bits_of(RTNConfig(dtype="fp32")) == {}


def test_kinds_of_configurations_mix() -> None:
    config = RTNConfig().set_local("fc1", MXQuantConfig(w_dtype="fp4"))
    resolved = config.resolve(model())
    assert (resolved["fc1"].weight.fmt.name, resolved["fc10"].weight.fmt.name) == ("mxfp4", "int4")
    assert resolved["fc1"].activation is not None


def test_white_list() -> None:
    assert list(bits_of(RTNConfig(white_list=["fc1", Special]))) == ["fc1", "block.down"]
    assert bits_of(RTNConfig(white_list=None)) == {}
    assert bits_of(RTNConfig(white_list=None).set_local("fc1", RTNConfig(bits=8))) == {"fc1": "int8"}
    assert bits_of(RTNConfig(white_list=["block"]).set_local("block.up", RTNConfig(bits=8))) == {
        "block.up": "int8",
        "block.down": "int4",
    }
    for wrong in ("fc1", 3):
        with pytest.raises(ValueError, match=rf'white_list must be "\*", a list or None, got {wrong!r}'):
            RTNConfig(white_list=wrong)  # type: ignore[arg-type]  # that is the point


def test_a_way_to_match_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="'suffix' is not a valid NameMatch"):
        RTNConfig().set_local("fc1", RTNConfig(bits=8), match="suffix")
    with pytest.raises(ValueError, match="a rule is a string"):
        RTNConfig.from_dict({"local": [{"match": {"suffix": "fc1"}, "config": RTNConfig().to_dict()}]})


def test_a_rule_must_match_something() -> None:
    with pytest.raises(ValueError, match="'fc2' matches none of the 5 that can be quantized; nearest: fc1"):
        bits_of(RTNConfig().set_local("fc2", RTNConfig()))
    with pytest.raises(ValueError, match="'fc2' matches none"):
        bits_of(RTNConfig(white_list=["fc2"]))


def test_a_head_that_is_named_must_be_meant() -> None:
    with pytest.raises(
        ValueError, match=r"'lm_head'.* only output heads, which are left alone; give it quant_lm_head=True"
    ):
        bits_of(RTNConfig().set_local("lm_head", RTNConfig(bits=8)))
    config = RTNConfig().set_local("lm_head", RTNConfig(bits=8, quant_lm_head=True))
    assert bits_of(config)["lm_head"] == "int8"
    assert "lm_head" not in bits_of(RTNConfig().set_local("lm_head", RTNConfig(dtype="fp32")))


def test_a_layer_that_does_not_fit_is_named() -> None:
    broken = nn.Sequential(nn.Linear(8, 8))
    broken[0].register_forward_hook(lambda *_: None)
    with pytest.raises(LayerError, match=r"^0: "):
        RTNConfig().resolve(broken)


def test_set_local_takes_configurations_only() -> None:
    with pytest.raises(TypeError, match="a layer gets a configuration such as RTNConfig, got 'int8'"):
        RTNConfig().set_local("fc1", "int8")


CONFIGS = [
    RTNConfig(),
    RTNConfig(bits=8, white_list=["fc1", nn.Linear]),
    RTNConfig(white_list=None),
    RTNConfig().set_local("fc1", RTNConfig(dtype="fp32")).set_local(nn.Linear, MXQuantConfig(blocksize=16)),
    RTNConfig().set_local(["fc", nn.Linear], RTNConfig(bits=2), match="prefix"),
    MXQuantConfig(round_method="even").set_local("a|b", RTNConfig().set_local("x", RTNConfig(bits=2))),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_survives_dict_and_file(config: BaseConfig, tmp_path: Path) -> None:
    described = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(described) == config
    assert type(config).from_dict(json.loads(config.to_json_string())) == config
    assert type(config).from_dict(yaml.safe_load(config.to_yaml())) == config
    config.to_json_file(tmp_path / "config.json")
    assert type(config).from_json_file(tmp_path / "config.json") == config


def test_configurations_with_other_rules_differ() -> None:
    assert RTNConfig() == RTNConfig()
    assert RTNConfig().set_local("fc1", RTNConfig(bits=8)) != RTNConfig()
    assert RTNConfig() != RTNConfig(bits=8)


def test_unknown_fields_and_wrong_types_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'bit'"):
        RTNConfig(bit=4)
    with pytest.raises(TypeError, match="RTNConfig has no field 'bit'; it has dtype, bits"):
        RTNConfig.from_dict({"bit": 4})
    with pytest.raises(TypeError, match="bits must be int, got '4'"):
        RTNConfig.from_dict({"bits": "4"})
    with pytest.raises(TypeError, match="use_sym must be bool, got 1"):
        RTNConfig(use_sym=1)
    with pytest.raises(TypeError, match="bits must be int, got True"):
        RTNConfig(bits=True)
    with pytest.raises(ValueError, match="RTNConfig is described by the name 'rtn', got 'mx_quant'"):
        RTNConfig.from_dict(MXQuantConfig().to_dict())
    with pytest.raises(ValueError, match="a local rule has the keys"):
        RTNConfig.from_dict({"local": [{"match": "x"}]})
    with pytest.raises(ValueError, match=r"a rule is a string, .* got 3"):
        RTNConfig.from_dict({"local": [{"match": 3, "config": {"name": "rtn"}}]})
    with pytest.raises(TypeError, match="a list of rules is a JSON array"):
        RTNConfig.from_dict({"local": "fc1"})


def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="a configuration is a JSON object, got list"):
        RTNConfig.from_json_file(tmp_path / "config.json")


def test_fields_are_set_at_construction() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'bits'"):
        RTNConfig().bits = 8


def test_sums_of_configurations() -> None:
    model = nn.ModuleDict({"mlp": nn.Linear(64, 64), "attention": nn.Linear(64, 64), "other": nn.Linear(64, 64)})
    mlp = GPTQConfig(group_size=32)
    attention = FP8Config(white_list=["attention"])
    before = (mlp.to_dict(), attention.to_dict())
    both = (mlp + attention).resolve(model)
    assert both["attention"] == FP8Config().scheme()
    assert both["mlp"] == both["other"] == mlp.scheme()
    assert (mlp.to_dict(), attention.to_dict()) == before
    local = RTNConfig() + RTNConfig().set_local("mlp", RTNConfig(bits=8)).set_local("other", RTNConfig(bits=2))
    assert local.resolve(model)["mlp"] == RTNConfig(bits=8).scheme()
    later = local + RTNConfig(bits=3, white_list=["mlp"])
    assert later.resolve(model)["mlp"] == RTNConfig(bits=3).scheme()
    assert later.resolve(model)["other"] == RTNConfig(bits=2).scheme()
    assert later.resolve(model)["attention"] == RTNConfig().scheme()


def test_two_configurations_of_every_layer_have_no_sum() -> None:
    with pytest.raises(ValueError, match="both configurations speak of every layer; give FP8Config a white_list"):
        RTNConfig() + FP8Config()
    with pytest.raises(ValueError, match="give RTNConfig a white_list"):
        RTNConfig() + RTNConfig(bits=8)
    with pytest.raises(TypeError):
        RTNConfig() + 1  # type: ignore[operator]  # that is the point
