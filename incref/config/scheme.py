"""What one layer becomes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from incref.config.maxabs import MaxAbsScale
from incref.config.method import GPTQ, RTN, Cast, ColumnOrder, GroupScales, Method
from incref.config.range_rule import RangeRule
from incref.config.smoothing import Smoothing
from incref.formats import FloatFormat, IntFormat, Rounding
from incref.numerics.granularity import PER_TENSOR
from incref.qtensor.spec import QuantSpec

__all__ = ["CAST_DTYPES", "Elementwise", "InputScheme", "LayerScheme"]

CAST_DTYPES: Mapping[str, torch.dtype] = MappingProxyType({"float16": torch.float16, "bfloat16": torch.bfloat16})
"""The formats that whole layers can be cast to, by name."""


@dataclass(frozen=True, kw_only=True)
class Elementwise:
    """The format that inputs, outputs and biases are rounded to, element by element and without a scale.

    Attributes:
        fmt: a float format of at most 32 bits.
        rounding: which neighbour a value becomes.
    """

    fmt: FloatFormat
    rounding: Rounding = Rounding.NEAREST_EVEN


@dataclass(frozen=True, kw_only=True)
class InputScheme:
    """What happens to the inputs of a module without weights: the factors of a product, or what a cache keeps.

    Attributes:
        activation: how an input is quantized, its last dimension being the one that is summed over. Of the second
            factor of a product that is the last but one, and the same holds with the two exchanged.
        elementwise: what inputs and result are rounded to first and last; None for nothing.
        input_scale: how scales are found; None for the rule of `activation`.
        is_static: whether they are found once, of all that calibration data feeds the module.

    Raises:
        ValueError: for scales of something that is not quantized to floats, or a static scale that is not one for the
            whole input.
    """

    activation: QuantSpec
    elementwise: Elementwise | None = None
    input_scale: MaxAbsScale | None = None
    is_static: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _check_input(self.activation, self.input_scale, is_static=self.is_static)

    def __str__(self) -> str:
        """Format of the inputs."""
        return f"input {self.activation.fmt.name}{', static' if self.is_static else ''}"


@dataclass(frozen=True, kw_only=True)
class LayerScheme:
    """How a layer's weight is stored and what happens to its input.

    Attributes:
        weight: how the weight is quantized.
        activation: how the input is quantized and dequantized in every call; None to leave it as it is.
        method: how the codes of the weight are found.
        elementwise: what the vector operations of the layer round to; None for the dtype of the input.
        weight_scale: how the scales of the weight are found; None for the rule of its spec.
        input_scale: likewise for the input.
        input_range: which range a static input of integers covers.
        is_static: whether the scale of the input is found once, of all that calibration data feeds the layer; if not,
            it is found in every call.
        smoothing: how outliers move from the input to the weight; None for not at all.
        inputs: where one scheme speaks of a whole model: what happens to the inputs of its modules without weights;
            None for nothing.

    Raises:
        ValueError: for scales of something that is not quantized to floats, a static scale that is not one for the
            whole input, a weight by GPTQ with scales of its own or a static input, or anything beside the format where
            the layer is cast.
    """

    weight: QuantSpec
    activation: QuantSpec | None = None
    method: Method = RTN()  # noqa: RUF009  # it is frozen
    elementwise: Elementwise | None = None
    weight_scale: MaxAbsScale | None = None
    input_scale: MaxAbsScale | None = None
    input_range: RangeRule | None = None
    is_static: bool = False
    smoothing: Smoothing | None = None
    inputs: InputScheme | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _check_scale(self.weight, self.weight_scale)
        if self.input_range is None:
            _check_input(self.activation, self.input_scale, is_static=self.is_static)
        else:
            _check_range(self.activation, self.input_scale, is_static=self.is_static)
        if isinstance(self.method, GPTQ) and (self.weight_scale is not None or self.is_static):
            raise ValueError("GPTQ finds scales by the rule of the spec, and knows no static inputs")
        if self.smoothing is not None and (self.activation is None or not isinstance(self.method, RTN)):
            raise ValueError("smoothing needs an input that is quantized, and a weight that is rounded to nearest")
        if self.smoothing is not None and self.is_static and self.input_range is None:
            raise ValueError("smoothing needs an input of integers, or scales of every call")
        if isinstance(self.method, Cast):
            self._require_only_a_dtype()

    def stored_bytes(self, shape: Sequence[int]) -> int:
        """Bytes that a weight of `shape` takes, with all its scales and its order if it has one."""
        if isinstance(self.method, Cast):
            return math.prod(shape) * self.weight.element.bits // 8
        return self.weight.stored_bytes(shape) + (4 * shape[-1] if self.mixes_columns(shape) else 0)

    def mixes_columns(self, shape: Sequence[int]) -> bool:
        """Whether a weight of `shape` is stored with an order: columns that are not neighbours share scales."""
        method = self.method
        if not isinstance(method, GPTQ) or method.order is not ColumnOrder.DESCENDING:
            return False
        groups = self.weight.scale_shape(shape)[-1:] or (1,)
        return method.group_scales is not GroupScales.ORIGINAL and 1 < groups[0] < shape[-1]

    def __str__(self) -> str:
        """Format and groups of the weight, the method if it is not rounding, and the format of the input."""
        if isinstance(self.method, Cast):
            return self.weight.fmt.name
        parts = [f"{self.weight}"]
        if isinstance(self.method, GPTQ):
            parts.append("GPTQ")
        if self.activation is not None:
            parts.append(f"input {self.activation.fmt.name}{', static' if self.is_static else ''}")
        if self.smoothing is not None:
            parts.append(str(self.smoothing))
        return ", ".join(parts)

    def _require_only_a_dtype(self) -> None:
        others = (self.activation, self.elementwise, self.weight_scale, self.input_scale, self.input_range)
        if self.weight != QuantSpec(fmt=self.weight.fmt) or any(other is not None for other in others):
            raise ValueError("a layer that is cast has a format and nothing else")
        if self.weight.fmt.name not in CAST_DTYPES:
            raise ValueError(f"a layer is cast to {' or '.join(CAST_DTYPES)}, got {self.weight.fmt.name}")


def _check_input(spec: QuantSpec | None, scale: MaxAbsScale | None, *, is_static: bool) -> None:
    _check_scale(spec, scale)
    if is_static and (scale is None or spec is None):
        raise ValueError("a static input needs an input_scale")
    if is_static and spec is not None and spec.granularity != PER_TENSOR:
        raise ValueError(f"a static scale is one for the whole input, got {spec.granularity}")


def _check_range(spec: QuantSpec | None, scale: MaxAbsScale | None, *, is_static: bool) -> None:
    if not is_static or spec is None or not isinstance(spec.fmt, IntFormat) or spec.granularity != PER_TENSOR:
        raise ValueError("an input_range is that of a static input of integers, with one scale")
    if scale is not None:
        raise ValueError("an input has an input_range or an input_scale")


def _check_scale(spec: QuantSpec | None, scale: MaxAbsScale | None) -> None:
    if scale is not None and (spec is None or not isinstance(spec.fmt, FloatFormat)):
        raise ValueError(f"scale methods are for floats, got {None if spec is None else spec.fmt.name}")
