"""What the configurations for 8-bit integers have in common: from their fields to specs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from incref.config.method import RTN, Cast
from incref.config.range_rule import RangeMethod, RangeRule
from incref.config.scheme import LayerScheme
from incref.errors import UnsupportedError
from incref.formats import FORMATS, ScaleArithmetic, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_channel
from incref.qtensor.spec import QuantSpec

__all__ = [
    "HALVES",
    "cast_scheme",
    "input_spec",
    "one_of",
    "range_rule",
    "require_plain",
    "weight_method",
    "weight_spec",
]

HALVES: Mapping[str, str] = MappingProxyType({"fp16": "float16", "bf16": "bfloat16"})
"""The dtypes of weights that stand for `MixedPrecisionConfig` in some layers."""
_RANGES = tuple(method.value for method in RangeMethod)


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Check that the field called `name` has one of the values that it may have.

    Raises:
        ValueError: if not.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def cast_scheme(w_dtype: str) -> LayerScheme:
    """What a layer becomes that computes in a 16-bit float."""
    return LayerScheme(weight=QuantSpec(fmt=FORMATS[HALVES[w_dtype]]), method=Cast())


def weight_spec(granularity: str, *, use_sym: bool, ndim: int) -> QuantSpec:
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


def weight_method(algo: str) -> RTN:
    """How weights are rounded.

    Raises:
        ValueError: for something other than "minmax" and "mse".
    """
    one_of("w_algo", algo, ("minmax", "mse"))
    return RTN(use_mse_search=algo == "mse")


def input_spec(dtype: str, granularity: str, *, use_sym: bool, granularities: Sequence[str]) -> QuantSpec:
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
    if not isinstance(excluded_precisions, list) or not set(excluded_precisions) <= set(HALVES):
        raise ValueError(f"excluded_precisions is a list of {', '.join(HALVES)}, got {excluded_precisions!r}")
    if model_info is not None:
        raise UnsupportedError("model_info is found in the model that is quantized; leave it out")
