"""`MXQuantConfig`: weights and inputs in blocks that share a power of two."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import Self

from incref.config.base import EVERYTHING, BaseConfig, WhiteList
from incref.config.scheme import Elementwise, LayerScheme
from incref.formats import E8M0, FORMATS, BlockFormat, FloatFormat, IntFormat, Rounding
from incref.qtensor.spec import QuantSpec

__all__ = ["MXQuantConfig", "get_default_mx_config"]

_ROUNDINGS: Mapping[str, Rounding] = MappingProxyType(
    {
        "nearest": Rounding.NEAREST_AWAY,
        "even": Rounding.NEAREST_EVEN,
        "floor": Rounding.TOWARD_ZERO,
        "dither": Rounding.STOCHASTIC,
    }
)


def _block(name: str, element: FloatFormat | IntFormat) -> BlockFormat:
    return BlockFormat(name=name, element=element, scale=E8M0, block_size=32, source="microscaling emulation library")


def _row(name: str) -> BlockFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    return fmt


def _element(name: str) -> FloatFormat | IntFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat | IntFormat)
    return fmt


_DTYPES: Mapping[str, BlockFormat] = MappingProxyType(
    {
        "int8": _row("mxint8"),
        "int4": _block("mxint4", _element("int4")),
        "int2": _block("mxint2", _element("int2")),
        "fp8_e5m2": _row("mxfp8_e5m2"),
        "fp8_e4m3": _row("mxfp8_e4m3"),
        "fp6_e3m2": _row("mxfp6_e3m2"),
        "fp6_e2m3": _row("mxfp6_e2m3"),
        "fp4": _row("mxfp4"),
        "float16": _block("mxfloat16", _element("float16")),
        "bfloat16": _block("mxbfloat16", _element("bfloat16")),
    }
)
_OUT_DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class MXQuantConfig(BaseConfig):
    """Weights, and inputs in every call, in blocks along the input features that share a power of two.

    Around that, input, weight, output and bias are rounded to `out_dtype`, element by element.

    Attributes:
        w_dtype: elements of the weight: int8, int4, int2, fp8_e5m2, fp8_e4m3, fp6_e3m2, fp6_e2m3, fp4, float16 or
            bfloat16.
        act_dtype: elements of the input, likewise.
        out_dtype: what vector operations round to: bfloat16, float16, or float32 for none.
        blocksize: how many elements share a scale.
        round_method: of all these roundings: "nearest" (ties away from zero), "even" (ties to even), "floor" (toward
            zero) or "dither" (stochastic).
        weight_only: whether the input is left out.
        white_list: the layers that the configuration speaks of.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for a value that is not listed above; the message lists them.
    """

    name: ClassVar[str] = "mx_quant"

    w_dtype: str = "int8"
    act_dtype: str = "int8"
    out_dtype: str = "bfloat16"
    blocksize: int = 32
    round_method: str = "nearest"
    weight_only: bool = False
    white_list: WhiteList = EVERYTHING

    def scheme(self) -> LayerScheme:
        """What a layer becomes."""
        self.require_one()
        if self.blocksize < 1:
            raise ValueError(f"blocksize must be positive, got {self.blocksize}")
        if self.out_dtype not in _OUT_DTYPES:
            raise ValueError(f"out_dtype must be one of {', '.join(_OUT_DTYPES)}, got {self.out_dtype!r}")
        if self.round_method not in _ROUNDINGS:
            raise ValueError(f"round_method must be one of {', '.join(_ROUNDINGS)}, got {self.round_method!r}")
        rounding = _ROUNDINGS[self.round_method]
        weight = self._spec("w_dtype", self.w_dtype, rounding)
        activation = self._spec("act_dtype", self.act_dtype, rounding)
        elementwise = None
        if self.out_dtype != "float32":
            fmt = _element(self.out_dtype)
            assert isinstance(fmt, FloatFormat)
            elementwise = Elementwise(fmt=fmt, rounding=rounding)
        return LayerScheme(weight=weight, activation=None if self.weight_only else activation, elementwise=elementwise)

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for.

        MXINT8 weights, with inputs quantized or as they are.
        """
        return cls(weight_only=[False, True])  # type: ignore[arg-type]  # a list of what a field holds is a search space

    def _spec(self, field: str, dtype: str, rounding: Rounding) -> QuantSpec:
        if dtype not in _DTYPES:
            raise ValueError(f"{field} must be one of {', '.join(_DTYPES)}, got {dtype!r}")
        fmt = _DTYPES[dtype]
        if self.blocksize != fmt.block_size:
            fmt = replace(fmt, name=f"{fmt.name}_block{self.blocksize}", block_size=self.blocksize)
        return QuantSpec(fmt=fmt, rounding=rounding)


def get_default_mx_config() -> MXQuantConfig:
    """Make the default configuration: MXINT8 weights and inputs."""
    return MXQuantConfig()
