"""What a quantized layer does to its input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.config.scheme import Elementwise
from incref.formats import Overflow
from incref.ops.decode import decode
from incref.ops.encode import encode
from incref.qtensor.parts import draw_random_bits, fake_quantize
from incref.qtensor.spec import QuantSpec

__all__ = ["InputQuantizer", "round_elementwise"]


@dataclass(frozen=True, kw_only=True)
class InputQuantizer:
    """Rounds and quantizes the input of a layer, and dequantizes it again.

    Attributes:
        elementwise: what it is rounded to first, element by element; None for nothing.
        activation: how it is quantized then, along its last dimension; None not at all.
    """

    elementwise: Elementwise | None = None
    activation: QuantSpec | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Give what the layer multiplies with, in the dtype of x."""
        if self.elementwise is not None:
            x = round_elementwise(x, self.elementwise)
        if self.activation is not None:
            x = fake_quantize(x, self.activation, random_bits=draw_random_bits(x, self.activation.rounding))
        return x


def round_elementwise(x: Tensor, elementwise: Elementwise) -> Tensor:
    """Round every element of x to the format of `elementwise`, and give it in the dtype of x."""
    codes = encode(
        x,
        elementwise.fmt,
        rounding=elementwise.rounding,
        overflow=Overflow.NONSATURATE,
        random_bits=draw_random_bits(x, elementwise.rounding),
    )
    return decode(codes, elementwise.fmt, dtype=torch.float32).to(x.dtype)
