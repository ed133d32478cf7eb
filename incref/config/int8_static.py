"""`INT8StaticQuantConfig`: 8-bit integers with scales of inputs that calibration data gives."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn
from typing_extensions import Self

from incref.config.base import EVERYTHING, WhiteList
from incref.config.fp8 import FP8Config
from incref.config.int8_fields import Int8Fields, range_rule, require_plain
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme

__all__ = ["INT8StaticQuantConfig", "StaticQuantConfig", "get_default_static_config"]


@dataclass(frozen=True)
class INT8StaticQuantConfig(Int8Fields):
    """Weights and inputs of linear layers and convolutions as 8-bit integers, whose products are exact.

    Attributes:
        w_dtype: "int8"; "fp16" or "bf16" for layers that compute in that; "fp32" leaves a layer alone.
        w_sym: whether weights have no zero points.
        w_granularity: "per_channel" (a scale for each output channel) or "per_tensor".
        w_algo: "minmax", or "mse" for the search of `RTN`.
        act_dtype: "uint8" or "int8": which codes inputs have.
        act_sym: whether inputs are symmetric about zero.
        act_granularity: "per_tensor".
        act_algo: which range of the calibration data inputs cover: "mse", "minmax", "percentile" or "kl"; see
            `RangeMethod`.
        excluded_precisions: accepted and without effect: a layer has the precision that its `w_dtype` says.
        white_list: the layers that the configuration speaks of.
        model_info: has to be None.
        act_percentile: what "percentile" keeps.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for a value that is not listed above; the message lists them.
        UnsupportedError: for `model_info`.
    """

    name: ClassVar[str] = "static_quant"

    act_algo: str = "mse"
    excluded_precisions: list[str] = field(default_factory=list)
    white_list: WhiteList = EVERYTHING
    model_info: None = None
    act_percentile: float = 99.99

    @property
    def kinds(self) -> tuple[type[Layer], ...]:
        """The classes of layers that the configuration speaks of."""
        return (nn.Linear, nn.Conv2d)

    def scheme(self) -> LayerScheme | None:
        """What a linear layer becomes; None where `w_dtype` is "fp32"."""
        self.require_one()
        require_plain(self.excluded_precisions, self.model_info)
        return self._scheme(ndim=2)

    def scheme_for(self, name: str, layer: Layer) -> LayerScheme | None:
        """What `layer` becomes."""
        del name
        return self._scheme(ndim=layer.weight.ndim)

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for.

        Symmetric inputs or not, by divergence or by extremes.
        """
        return cls(act_sym=[True, False], act_algo=["kl", "minmax"])  # type: ignore[arg-type]  # a list of what a field holds is a search space

    def _scheme(self, ndim: int) -> LayerScheme | None:
        return self.int8_scheme(ndim=ndim, input_range=range_rule(self.act_algo, self.act_percentile))


def StaticQuantConfig(**fields: object) -> INT8StaticQuantConfig | FP8Config:  # noqa: N802  # the name that callers know
    """Make an `FP8Config` if there is a field `fp8_config`, else an `INT8StaticQuantConfig`.

    Args:
        fields: of that configuration.

    >>> type(StaticQuantConfig()).__name__, type(StaticQuantConfig(fp8_config="E5M2")).__name__
    ('INT8StaticQuantConfig', 'FP8Config')
    """
    if "fp8_config" in fields:
        return FP8Config(**fields)  # type: ignore[arg-type]  # it checks the types itself
    return INT8StaticQuantConfig(**fields)  # type: ignore[arg-type]  # likewise


def get_default_static_config() -> INT8StaticQuantConfig:
    """Make the default configuration: symmetric weights per channel, inputs with zero points."""
    return INT8StaticQuantConfig()
