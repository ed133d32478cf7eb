"""Search spaces that are worth a try."""

from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.config.table import CONFIGS

__all__ = ["get_all_config_set", "get_woq_tuning_config"]


def get_all_config_set() -> list[BaseConfig]:
    """Make the default search space of every kind of configuration."""
    return [cls.get_config_set_for_tuning() for cls in CONFIGS.values()]


def get_woq_tuning_config() -> list[BaseConfig]:
    """Make one configuration for every algorithm that quantizes weights alone: 4-bit integers with zero points.

    GPTQ needs calibration data, so that `autotune` needs a `run_fn`.
    """
    return [RTNConfig(use_sym=False, group_size=32), GPTQConfig(use_sym=False, group_size=32)]
