import pytest

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.config.table import CONFIGS, config_from_dict
from incref.qtensor.format_json import Json


def test_every_configuration_is_found_by_its_name() -> None:
    expected = {"rtn": RTNConfig, "gptq": GPTQConfig, "fp8_quant": FP8Config, "mx_quant": MXQuantConfig}
    assert expected.items() <= CONFIGS.items()
    assert all(cls.name == name for name, cls in CONFIGS.items())


@pytest.mark.parametrize("cls", CONFIGS.values())
def test_reads_what_to_dict_gives(cls: type[BaseConfig]) -> None:
    assert config_from_dict(cls().to_dict()) == cls()


def test_reads_the_nested_form() -> None:
    assert config_from_dict({"rtn": {"bits": 8}}) == RTNConfig(bits=8)
    assert config_from_dict({"mx_quant": {}}) == MXQuantConfig()


def test_reads_fields_of_all_layers_and_of_some() -> None:
    described: Json = {"rtn": {"global": {"bits": 8}, "local": {"fc1": {"dtype": "fp32"}, ".*v_proj": {}}}}
    expected = RTNConfig(bits=8).set_local("fc1", RTNConfig(dtype="fp32")).set_local(".*v_proj", RTNConfig())
    assert config_from_dict(described) == expected


def test_composes_several() -> None:
    described: Json = {"rtn": {"bits": 8}, "gptq": {"white_list": ["mlp"]}, "mx_quant": {"white_list": ["fc1"]}}
    assert config_from_dict(described) == (
        RTNConfig(bits=8) + GPTQConfig(white_list=["mlp"]) + MXQuantConfig(white_list=["fc1"])
    )
    with pytest.raises(ValueError, match="both configurations speak of every layer"):
        config_from_dict({"rtn": {}, "gptq": {}})


@pytest.mark.parametrize("described", [{"rtn": 3}, {"rtn": {"global": 3}}, {"rtn": {"local": {"fc1": 3}}}])
def test_fields_that_are_no_object_are_refused(described: Json) -> None:
    with pytest.raises(TypeError, match="JSON object, got 3"):
        config_from_dict(described)


@pytest.mark.parametrize(
    "described", [{}, {"name": "magic"}, {"bits": 8, "dtype": "int"}, {"magic": {}}, {"rtn": {}, "b": 1}]
)
def test_other_dicts_are_refused(described: Json) -> None:
    with pytest.raises(ValueError, match=f"a configuration is named {' or '.join(CONFIGS)}, got"):
        config_from_dict(described)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="a configuration is described by a dict, got 'rtn'"):
        config_from_dict("rtn")
