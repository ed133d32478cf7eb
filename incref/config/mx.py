"""`MXQuantConfig`: weights and inputs in blocks that share a power of two."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from torch import nn
from typing_extensions import Self

from incref.config.base import EVERYTHING, BaseConfig, WhiteList
from incref.config.rules import LINEAR, Layer
from incref.config.scheme import Elementwise, InputScheme, LayerScheme
from incref.formats import E8M0, FORMATS, BlockFormat, FloatFormat, IntFormat, Rounding, ScaleRule
from incref.formats.presets import MX_PRESETS
from incref.nn.inputs_only import InputsOnly
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


_BLOCK_SIZE = 32


def _block(name: str, element: FloatFormat | IntFormat) -> BlockFormat:
    return BlockFormat(
        name=name, element=element, scale=E8M0, block_size=_BLOCK_SIZE, source="microscaling emulation library"
    )


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
        # The same and more, by the names of the table.
        **{name: _row(name) for name, fmt in FORMATS.items() if isinstance(fmt, BlockFormat)},
    }
)
_RULES = {rule.value: rule for rule in ScaleRule if rule.is_power_of_two}
_OUT_DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class MXQuantConfig(BaseConfig):
    """Weights, and inputs in every call, in blocks that share a scale, along what is summed over.

    Blocks lie along the features of a linear layer's input and along the channels of a convolution's: every pixel, and
    every place in the kernel, has blocks of its own. Where a convolution has groups, blocks of the input run on from
    one to the next.

    Around that, input, weight, output and bias are rounded to `out_dtype`, element by element.

    Attributes:
        w_dtype: elements of the weight: int8, int4, int2, fp8_e5m2, fp8_e4m3, fp6_e3m2, fp6_e2m3, fp4, float16 or
            bfloat16; or a block format of `FORMATS` by name: mxfp8_e4m3, mxfp4, nvfp4 and so on.
        act_dtype: elements of the input, likewise.
        out_dtype: what vector operations round to: bfloat16, float16, or float32 for none.
        blocksize: how many elements share a scale. Blocks of NVFP4 have 16 elements; it takes 32 for that, too.
        round_method: of all these roundings: "nearest" (ties away from zero), "even" (ties to even), "floor" (toward
            zero) or "dither" (stochastic).
        weight_only: whether the input is left out.
        white_list: the layers that the configuration speaks of.
        scale_rule: how the largest magnitude of a block becomes its power of two: "floor", "ceil", "even" or "rceil".
            NVFP4, whose scales are E4M3, has its own.
        preset: a name of `MX_PRESETS`, which then says everything but the dtypes: rule, rounding, and what NaN and Inf
            do; "" for none. It speaks of the formats that its row lists. `out_dtype` is rounded to as elements are.

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
    scale_rule: str = "floor"
    preset: str = ""

    @property
    def kinds(self) -> tuple[type[Layer], ...]:
        """The classes of layers that the configuration speaks of."""
        return (*LINEAR, nn.Conv2d)

    def scheme(self) -> LayerScheme:
        """What a linear layer becomes."""
        self.require_one()
        return self._scheme(axis=-1)

    def scheme_for(self, name: str, layer: Layer) -> LayerScheme:  # noqa: ARG002  # all layers of a kind become the same
        """What `layer` becomes."""
        # Channels of the input, and of the weight [N, C / groups, kh, kw], with and without a batch dimension.
        return self._scheme(axis=-3 if isinstance(layer, nn.Conv2d) else -1)

    def inputs_for(self, name: str, module: InputsOnly) -> InputScheme | None:  # noqa: ARG002  # they all become the same
        """What happens to the inputs of `module`; None if inputs are left out."""
        scheme = self._scheme(axis=-1)
        if scheme.activation is None:
            return None
        return InputScheme(activation=scheme.activation, elementwise=scheme.elementwise)

    def _scheme(self, axis: int) -> LayerScheme:
        _one_of("out_dtype", self.out_dtype, _OUT_DTYPES)
        weight = self._spec("w_dtype", self.w_dtype, axis)
        activation = self._spec("act_dtype", self.act_dtype, axis)
        elementwise = None
        if self.out_dtype != "float32":
            fmt = _element(self.out_dtype)
            assert isinstance(fmt, FloatFormat)
            elementwise = Elementwise(fmt=fmt, rounding=weight.rounding)
        return LayerScheme(weight=weight, activation=None if self.weight_only else activation, elementwise=elementwise)

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for.

        MXINT8 weights, with inputs quantized or as they are.
        """
        return cls(weight_only=[False, True])  # type: ignore[arg-type]  # a list of what a field holds is a search space

    def _spec(self, field: str, dtype: str, axis: int) -> QuantSpec:
        _one_of(field, dtype, _DTYPES)
        _one_of("round_method", self.round_method, _ROUNDINGS)
        _one_of("scale_rule", self.scale_rule, _RULES)
        if self.blocksize < 1:
            raise ValueError(f"blocksize must be positive, got {self.blocksize}")
        fmt = self._format(_DTYPES[dtype])
        if self.preset:
            return self._spec_of_preset(field, fmt, axis)
        rule = None if fmt.has_tensor_scale else _RULES[self.scale_rule]
        return QuantSpec(fmt=fmt, axis=axis, rounding=_ROUNDINGS[self.round_method], rule=rule)  # type: ignore[arg-type]  # None for the format's own

    def _format(self, fmt: BlockFormat) -> BlockFormat:
        if fmt.has_tensor_scale:
            if self.blocksize not in (fmt.block_size, _BLOCK_SIZE):
                raise ValueError(f"blocks of {fmt.name} have {fmt.block_size} elements, got blocksize {self.blocksize}")
            return fmt
        if self.blocksize == fmt.block_size:
            return fmt
        return replace(fmt, name=f"{fmt.name}_block{self.blocksize}", block_size=self.blocksize)

    def _spec_of_preset(self, field: str, fmt: BlockFormat, axis: int) -> QuantSpec:
        _one_of("preset", self.preset, MX_PRESETS)
        row, default = MX_PRESETS[self.preset], MXQuantConfig
        if (self.round_method, self.scale_rule) != (default.round_method, default.scale_rule):
            raise ValueError(
                f"a preset decides on rounding and scales; leave round_method and scale_rule out, got "
                f"{self.round_method!r} and {self.scale_rule!r}"
            )
        if fmt.name not in row.formats:
            raise ValueError(f"preset {row.name!r} speaks of {', '.join(row.formats)}, got {fmt.name} as {field}")
        return QuantSpec(fmt=fmt, axis=axis, **row.options())


def _one_of(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def get_default_mx_config() -> MXQuantConfig:
    """Make the default configuration: MXINT8 weights and inputs."""
    return MXQuantConfig()
