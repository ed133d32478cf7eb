"""The configurations by name, and how one is read from JSON values."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.int8_dynamic import DynamicQuantConfig
from incref.config.int8_static import INT8StaticQuantConfig
from incref.config.mixed_precision import MixedPrecisionConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.config.smooth_quant import SmoothQuantConfig
from incref.qtensor.format_json import Json

__all__ = ["CONFIGS", "config_from_dict"]

CONFIGS: Mapping[str, type[BaseConfig]] = MappingProxyType(
    {
        cls.name: cls
        for cls in (
            RTNConfig,
            GPTQConfig,
            INT8StaticQuantConfig,
            DynamicQuantConfig,
            SmoothQuantConfig,
            FP8Config,
            MXQuantConfig,
            MixedPrecisionConfig,
        )
    }
)
"""Every configuration class by its name."""


def config_from_dict(described: Json) -> BaseConfig:
    """Make a configuration of `{"name": "rtn", ...}`, as `to_dict` gives it, or of `{"rtn": {...}}`.

    With several names, such as `{"rtn": {...}, "gptq": {...}}`, the configurations are composed by `+`.

    Raises:
        ValueError: if it names no configuration, or several that can't be composed.
        TypeError: if it is not a dict.
    """
    if not isinstance(described, dict):
        raise TypeError(f"a configuration is described by a dict, got {described!r}")
    if "name" in described:
        return _class(described["name"], described).from_dict(described)
    if not described:
        _class(None, described)
    first, *others = [_class(name, described).from_dict(_fields(inner)) for name, inner in described.items()]
    for other in others:
        first += other
    return first


def _class(name: Json, described: Json) -> type[BaseConfig]:
    if not isinstance(name, str) or name not in CONFIGS:
        raise ValueError(f"a configuration is named {' or '.join(CONFIGS)}, got {described!r}")
    return CONFIGS[name]


def _fields(inner: Json) -> dict[str, Json]:
    if not isinstance(inner, dict):
        raise TypeError(f"the fields of a configuration are a JSON object, got {inner!r}")
    return inner
