"""What the configurations for 8-bit integers have in common: their first fields, and from those to schemes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from incref.config.base import BaseConfig
from incref.config.method import RTN, Cast
from incref.config.range_rule import RangeMethod, RangeRule
from incref.config.scheme import LayerScheme
from incref.config.smoothing import Smoothing
from incref.config.weight_format import SKIP
from incref.errors import UnsupportedError
from incref.formats import FORMATS, ScaleArithmetic, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_channel
from incref.qtensor.spec import QuantSpec

__all__ = ["Int8Fields", "one_of", "range_rule", "require_plain"]

_HALVES: Mapping[str, str] = MappingProxyType({"fp16": "float16", "bf16": "bfloat16"})
"""The dtypes of weights that stand for `MixedPrecisionConfig` in some layers."""
_RANGES = tuple(method.value for method in RangeMethod)


@dataclass(frozen=True)
class Int8Fields(BaseConfig):
    """The fields that all of them begin with; each says what they mean, and has defaults of its own."""

    w_dtype: str = "int8"
    w_sym: bool = True
    w_granularity: str = "per_channel"
    w_algo: str = "minmax"
    act_dtype: str = "uint8"
    act_sym: bool = False
    act_granularity: str = "per_tensor"
    act_algo: str = "minmax"

    def int8_scheme(
        self,
        *,
        ndim: int = 2,
        input_range: RangeRule | None = None,
        smoothing: Smoothing | None = None,
        granularities: Sequence[str] = ("per_tensor",),
    ) -> LayerScheme | None:
        """What these fields make of a layer; None where `w_dtype` leaves it alone.

        Args:
            ndim: dimensions of its weight.
            input_range: which range its static input covers; None for scales that every call gives.
            smoothing: how outliers move from the input to the weight; None for not at all.
            granularities: values that `act_granularity` may have.

        Raises:
            ValueError: for a value that a field may not have.
        """
        one_of("w_dtype", self.w_dtype, ("int8", *_HALVES, *SKIP))
        weight = _weight_spec(self.w_granularity, use_sym=self.w_sym, ndim=ndim)
        method = _weight_method(self.w_algo)
        activation = _input_spec(
            self.act_dtype, self.act_granularity, use_sym=self.act_sym, granularities=granularities
        )
        if self.w_dtype in SKIP:
            return None
        if self.w_dtype in _HALVES:
            return LayerScheme(weight=QuantSpec(fmt=FORMATS[_HALVES[self.w_dtype]]), method=Cast())
        return LayerScheme(
            weight=weight,
            activation=activation,
            method=method,
            input_range=input_range,
            is_static=input_range is not None,
            smoothing=smoothing,
        )


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Check that the field called `name` has one of the values that it may have.

    Raises:
        ValueError: if not.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _weight_spec(granularity: str, *, use_sym: bool, ndim: int) -> QuantSpec:
    """Weights of `ndim` dimensions as int8: symmetric ones with `scale = amax / 127.5`, or with zero points.

    Raises:
        ValueError: for a granularity that is not "per_channel" or "per_tensor".
    """
    one_of("w_granularity", granularity, ("per_channel", "per_tensor"))
    return QuantSpec(
        fmt=FORMATS["int8"],
        granularity=per_channel(0, ndim=ndim) if granularity == "per_channel" else PER_TENSOR,
        symmetric=use_sym,
        symmetric_scale=SymmetricScale.SPAN,
        arithmetic=ScaleArithmetic.RECIPROCAL,
    )


def _weight_method(algo: str) -> RTN:
    """How weights are rounded.

    Raises:
        ValueError: for something other than "minmax" and "mse".
    """
    one_of("w_algo", algo, ("minmax", "mse"))
    return RTN(use_mse_search=algo == "mse")


def _input_spec(dtype: str, granularity: str, *, use_sym: bool, granularities: Sequence[str]) -> QuantSpec:
    """Inputs as 8-bit integers: symmetric ones are int8 with `scale = amax / 127.5`, others have a zero point.

    Symmetric uint8 codes are those int8 codes plus 128, which is then the zero point: the same values.

    Raises:
        ValueError: for another dtype, or a granularity that is not in `granularities`.
    """
    one_of("act_dtype", dtype, ("uint8", "int8"))
    one_of("act_granularity", granularity, granularities)
    return QuantSpec(
        fmt=FORMATS["int8" if use_sym else dtype],
        granularity=PER_TOKEN if granularity == "per_token" else PER_TENSOR,
        symmetric=use_sym,
        symmetric_scale=SymmetricScale.SPAN,
        arithmetic=ScaleArithmetic.RECIPROCAL,
    )


def range_rule(algo: str, percentile: float) -> RangeRule:
    """Which range a static input covers.

    Raises:
        ValueError: for a method that there isn't, or a percentile that means nothing.
    """
    one_of("act_algo", algo, _RANGES)
    return RangeRule(method=RangeMethod(algo), percentile=percentile)


def require_plain(excluded_precisions: object, model_info: object) -> None:
    """Check the fields that are there for compatibility alone.

    Raises:
        ValueError: for precisions that there aren't.
        UnsupportedError: for a `model_info`.
    """
    if not isinstance(excluded_precisions, list) or not set(excluded_precisions) <= set(_HALVES):
        raise ValueError(f"excluded_precisions is a list of {', '.join(_HALVES)}, got {excluded_precisions!r}")
    if model_info is not None:
        raise UnsupportedError("model_info is found in the model that is quantized; leave it out")
