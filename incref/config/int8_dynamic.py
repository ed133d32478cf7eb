"""`DynamicQuantConfig`: 8-bit integers with scales of inputs that every call gives."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import Self

from incref.config.base import EVERYTHING, WhiteList
from incref.config.int8_fields import Int8Fields, range_rule
from incref.config.range_rule import RangeRule
from incref.config.scheme import LayerScheme

__all__ = ["DynamicQuantConfig", "get_default_dynamic_config"]


@dataclass(frozen=True)
class DynamicQuantConfig(Int8Fields):
    """Weights and inputs of linear layers as 8-bit integers, whose products are exact.

    Attributes:
        w_dtype: "int8"; "fp16" or "bf16" for layers that compute in that; "fp32" leaves a layer alone.
        w_sym: whether weights have no zero points.
        w_granularity: "per_channel" (a scale for each output channel) or "per_tensor".
        w_algo: "minmax", or "mse" for the search of `RTN`.
        act_dtype: "uint8" or "int8": which codes inputs have.
        act_sym: whether inputs are symmetric about zero.
        act_granularity: "per_tensor", or "per_token" for a scale of each row.
        act_algo: one of those of `INT8StaticQuantConfig`, and without effect: an input covers its own extremes.
        white_list: the layers that the configuration speaks of.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for a value that is not listed above; the message lists them.
    """

    name: ClassVar[str] = "pt2e_dynamic_quant"

    w_granularity: str = "per_tensor"
    act_algo: str = "kl"
    white_list: WhiteList = EVERYTHING

    def scheme(self) -> LayerScheme | None:
        """What a layer becomes; None where `w_dtype` is "fp32"."""
        self.require_one()
        range_rule(self.act_algo, RangeRule().percentile)
        return self.int8_scheme(granularities=("per_tensor", "per_token"))

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for.

        Symmetric inputs or not; `act_algo` is a list too, as callers know it, and what is the same is tried once.
        """
        return cls(act_sym=[True, False], act_algo=["kl", "minmax"])  # type: ignore[arg-type]  # a list of what a field holds is a search space


def get_default_dynamic_config() -> DynamicQuantConfig:
    """Make the default configuration: symmetric weights, inputs with zero points, one scale each."""
    return DynamicQuantConfig()
