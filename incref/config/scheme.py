"""What one layer becomes."""

from dataclasses import dataclass

from incref.config.method import RTN, Method
from incref.formats import FloatFormat, Rounding
from incref.qtensor.spec import QuantSpec

__all__ = ["Elementwise", "LayerScheme"]


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
class LayerScheme:
    """How a layer's weight is stored and what happens to its input.

    Attributes:
        weight: how the weight is quantized.
        activation: how the input is quantized and dequantized in every call; None to leave it as it is.
        method: how the codes of the weight are found.
        elementwise: what the vector operations of the layer round to; None for the dtype of the input.
    """

    weight: QuantSpec
    activation: QuantSpec | None = None
    method: Method = RTN()  # noqa: RUF009  # it is frozen
    elementwise: Elementwise | None = None
