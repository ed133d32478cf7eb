"""The configurations by name, and how one is read from JSON values."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.mixed_precision import MixedPrecisionConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.qtensor.format_json import Json

__all__ = ["CONFIGS", "config_from_dict"]

CONFIGS: Mapping[str, type[BaseConfig]] = MappingProxyType(
    {cls.name: cls for cls in (RTNConfig, GPTQConfig, FP8Config, MXQuantConfig, MixedPrecisionConfig)}
)
"""Every configuration class by its name."""


def config_from_dict(described: Json) -> BaseConfig:
    """Make a configuration of `{"name": "rtn", ...}`, as `to_dict` gives it, or of `{"rtn": {...}}`.

    Raises:
        ValueError: if it names no configuration.
        TypeError: if it is not a dict.
    """
    if not isinstance(described, dict):
        raise TypeError(f"a configuration is described by a dict, got {described!r}")
    name, fields = described.get("name"), described
    if name is None and len(described) == 1:
        name, inner = next(iter(described.items()))
        fields = inner if isinstance(inner, dict) else {}
    if not isinstance(name, str) or name not in CONFIGS:
        raise ValueError(f"a configuration is named {' or '.join(CONFIGS)}, got {described!r}")
    return CONFIGS[name].from_dict(fields)
