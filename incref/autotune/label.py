"""Configurations in few words."""

from collections import Counter
from dataclasses import fields

from incref.config.base import BaseConfig
from incref.config.resolve import QuantConfig
from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES

__all__ = ["label"]


def label(config: QuantConfig) -> str:
    """Name a configuration by what is not its default, and a scheme by its row in `SCHEMES`.

    >>> from incref.config.rtn import RTNConfig
    >>> label(RTNConfig(bits=8).set_local("fc1", RTNConfig(dtype="fp32")))
    "RTNConfig(bits=8), locally 1 RTNConfig(dtype='fp32')"
    >>> label(SCHEMES["mxfp4"])
    'mxfp4'
    """
    if isinstance(config, LayerScheme):
        return next((name for name, scheme in SCHEMES.items() if scheme == config), repr(config))
    if not isinstance(config, BaseConfig):
        return repr(config)
    counts = Counter(_fields(local) for _, local in config.local_rules)
    rules = [f"{count} {name}" for name, count in counts.items()]
    if config.white_list is None:
        return ", ".join(rules) or _fields(config)
    return f"{_fields(config)}, locally {', '.join(rules)}" if rules else _fields(config)


def _fields(config: BaseConfig) -> str:
    default = type(config)()
    given = [
        f"{f.name}={getattr(config, f.name)!r}"
        for f in fields(config)
        if f.init and getattr(config, f.name) != getattr(default, f.name)
    ]
    return f"{type(config).__name__}({', '.join(given)})"
