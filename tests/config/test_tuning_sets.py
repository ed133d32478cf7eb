from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.config.table import CONFIGS
from incref.config.tuning_sets import get_all_config_set, get_woq_tuning_config


def test_every_kind_of_configuration_has_a_space() -> None:
    assert [type(space) for space in get_all_config_set()] == list(CONFIGS.values())
    assert all(space.choices for space in get_all_config_set())


def test_one_weight_only_configuration_for_each_algorithm() -> None:
    assert get_woq_tuning_config() == [
        RTNConfig(use_sym=False, group_size=32),
        GPTQConfig(use_sym=False, group_size=32),
    ]
