"""`MixedPrecisionConfig`: layers that compute in a 16-bit float dtype."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from torch import nn
from typing_extensions import Self

from incref.config.base import EVERYTHING, BaseConfig, WhiteList
from incref.config.method import Cast
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme
from incref.formats import FORMATS
from incref.qtensor.spec import QuantSpec

__all__ = ["MixedPrecisionConfig", "get_default_mixed_precision_config", "get_default_mixed_precision_config_set"]

_FORMATS = MappingProxyType({"fp16": "float16", "bf16": "bfloat16", "fp32": None})


@dataclass(frozen=True)
class MixedPrecisionConfig(BaseConfig):
    """Linear layers and convolutions in float16 or bfloat16, the rest of the model as it is; see `Cast`.

    Attributes:
        dtype: "fp16", "bf16", or "fp32" to leave a layer alone.
        white_list: the layers that the configuration speaks of.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for another dtype.
    """

    name: ClassVar[str] = "mixed_precision"

    dtype: str = "fp16"
    white_list: WhiteList = EVERYTHING

    @property
    def kinds(self) -> tuple[type[Layer], ...]:
        """The classes of layers that the configuration speaks of."""
        return (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

    def scheme(self) -> LayerScheme | None:
        """What a layer becomes; None where `dtype` is "fp32"."""
        self.require_one()
        if self.dtype not in _FORMATS:
            raise ValueError(f"dtype must be one of {', '.join(_FORMATS)}, got {self.dtype!r}")
        name = _FORMATS[self.dtype]
        return None if name is None else LayerScheme(weight=QuantSpec(fmt=FORMATS[name]), method=Cast())

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for: all dtypes."""
        return cls(dtype=list(_FORMATS))  # type: ignore[arg-type]  # a list of what a field holds is a search space


def get_default_mixed_precision_config() -> MixedPrecisionConfig:
    """Make the default configuration: float16."""
    return MixedPrecisionConfig()


def get_default_mixed_precision_config_set() -> MixedPrecisionConfig:
    """Make the search space of the default dtypes: float16, bfloat16 and float32."""
    return MixedPrecisionConfig.get_config_set_for_tuning()
