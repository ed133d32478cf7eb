"""Configurations as search spaces, of every class."""

import dataclasses
from pathlib import Path

import pytest
from torch import nn

from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.config.space import scalar_kind
from incref.config.table import CONFIGS


def scalar_fields(cls: type[BaseConfig]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if scalar_kind(field.type)]


FIELDS = [(cls, name) for cls in CONFIGS.values() for name in scalar_fields(cls)]


def test_combinations_come_in_the_order_of_the_signature() -> None:
    assert RTNConfig(use_sym=[False, True], group_size=[32, 128]).expand() == [
        RTNConfig(use_sym=False, group_size=32),
        RTNConfig(use_sym=False, group_size=128),
        RTNConfig(use_sym=True, group_size=32),
        RTNConfig(use_sym=True, group_size=128),
    ]
    # However they are written.
    assert RTNConfig(group_size=[32, 128], use_sym=[False, True]).expand()[1] == RTNConfig(
        use_sym=False, group_size=128
    )


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_every_field_takes_a_list(cls: type[BaseConfig], name: str) -> None:
    value = getattr(cls(), name)
    space = cls(**{name: [value, value]})
    assert space.choices == {name: [value, value]}
    assert space.expand() == [cls(), cls()]


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_a_space_is_no_scheme(cls: type[BaseConfig], name: str) -> None:
    space = cls(**{name: [getattr(cls(), name)]})
    with pytest.raises(ValueError, match=rf"{name} must be one value to quantize with, got the search space \["):
        space.scheme()
    with pytest.raises(ValueError, match=rf"{name} must be one value"):
        space.resolve(nn.Sequential(nn.Linear(8, 8)))


@pytest.mark.parametrize("cls", CONFIGS.values())
def test_an_ordinary_configuration_is_a_space_of_one(cls: type[BaseConfig]) -> None:
    config = cls()
    assert config.choices == {}
    assert config.expand() == [config]
    assert config.expand()[0] is not config


def test_combinations_that_contradict_themselves_are_left_out() -> None:
    assert RTNConfig(dtype=["int4", "nf4"], use_sym=[True, False]).expand() == [
        RTNConfig(dtype="int4", use_sym=True),
        RTNConfig(dtype="int4", use_sym=False),
        RTNConfig(dtype="nf4", use_sym=True),
    ]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"bits": [4, 9]}, ValueError, "bits must be 1 to 8, got 9"),
        ({"dtype": ["int4", "nf5"], "use_sym": [True, False]}, ValueError, "no format is called 'nf5'"),
        ({"dtype": ["nf4"], "use_sym": [False]}, ValueError, "nf4 needs use_sym=True"),
        ({"dtype": ["mxfp4"], "use_double_quant": [True]}, ValueError, "set use_double_quant=False"),
        ({"bits": [4, "8"]}, TypeError, "bits must be int, got '8'"),
        ({"bits": []}, ValueError, "bits must have a value to choose"),
    ],
)
def test_a_value_that_no_combination_can_have_is_refused(
    fields: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RTNConfig(**fields)


def test_local_rules_go_along_and_are_not_shared() -> None:
    space = RTNConfig(bits=[4, 8]).set_local("fc1", RTNConfig(bits=2))
    one, other = space.expand()
    one.set_local("fc2", RTNConfig(bits=3))
    assert len(one.local_rules) == 2
    assert other == RTNConfig(bits=8).set_local("fc1", RTNConfig(bits=2))
    assert len(space.local_rules) == 1


def test_a_layer_gets_no_space() -> None:
    with pytest.raises(ValueError, match=r"bits must be one value to quantize with, got the search space \[4, 8\]"):
        RTNConfig().set_local("fc1", RTNConfig(bits=[4, 8]))
    described = RTNConfig().set_local("fc1", RTNConfig()).to_dict()
    described["local"][0]["config"]["bits"] = [4, 8]
    with pytest.raises(ValueError, match="bits must be one value"):
        RTNConfig.from_dict(described)


def test_a_space_is_written_and_read(tmp_path: Path) -> None:
    space = GPTQConfig(act_order=[True, False], percdamp=[0.01, 0.1], white_list=["fc1", nn.Linear])
    space.to_json_file(tmp_path / "space.json")
    again = GPTQConfig.from_json_file(tmp_path / "space.json")
    assert again == space
    assert len(again.expand()) == 4
    assert again.expand()[3].white_list == space.white_list


def test_a_space_keeps_its_own_list() -> None:
    bits = [4, 8]
    space = RTNConfig(bits=bits)
    bits.append(9)
    assert space.choices == {"bits": [4, 8]}


@pytest.mark.parametrize(("cls", "count"), [(RTNConfig, 12), (GPTQConfig, 4), (MXQuantConfig, 2)])
def test_default_spaces(cls: type[BaseConfig], count: int) -> None:
    space = cls.get_config_set_for_tuning()
    assert type(space) is cls
    assert len(space.expand()) == count
