"""Weights with quantized scales, as other libraries store them."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.config.rtn import RTNConfig

__all__ = ["get_default_double_quant_config", "get_rtn_double_quant_config_set"]

_PRESETS: Mapping[str, RTNConfig] = MappingProxyType(
    {
        # bitsandbytes: 256 scales of NF4 share a step and an offset.
        "BNB_NF4": RTNConfig(dtype="nf4", group_size=32, use_double_quant=True, double_quant_group_size=256),
        # GGML's Q4_K: 8 blocks of 32 weights share a step of their 6-bit scales.
        "GGML_TYPE_Q4_K": RTNConfig(
            bits=4,
            use_sym=False,
            group_size=32,
            use_double_quant=True,
            double_quant_bits=6,
            double_quant_use_sym=True,
            double_quant_group_size=8,
        ),
    }
)


def get_default_double_quant_config(type: str = "BNB_NF4") -> RTNConfig:  # noqa: A002  # the name that callers know
    """Make a configuration with quantized scales.

    Args:
        type: "BNB_NF4": NF4 in groups of 32, scales of 8 bits counted from the least of 256; or "GGML_TYPE_Q4_K": 4-bit
            integers with zero points in groups of 32, symmetric scales of 6 bits, 8 of which share a step.

    Raises:
        ValueError: for another type.

    >>> from torch import nn
    >>> from incref import convert
    >>> convert(nn.Sequential(nn.Linear(1024, 64)), get_default_double_quant_config())
    Sequential(
      (0): QuantLinear(in_features=1024, out_features=64, bias=True, weight=nf4 (4.258 bits))
    )
    """
    if type not in _PRESETS:
        raise ValueError(f"type must be one of {', '.join(_PRESETS)}, got {type!r}")
    return _PRESETS[type].expand()[0]


def get_rtn_double_quant_config_set() -> list[RTNConfig]:
    """Make the configurations of all types, to be tried by `autotune`."""
    return [get_default_double_quant_config(preset) for preset in _PRESETS]
