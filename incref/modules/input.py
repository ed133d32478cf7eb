"""What a quantized layer does to its input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.algorithms.maxabs import search_scale
from incref.config.maxabs import MaxAbsScale
from incref.config.scheme import Elementwise
from incref.formats import Overflow
from incref.ops.decode import decode
from incref.ops.encode import encode
from incref.qtensor.parts import REFERENCE, Quantizers, draw_random_bits, fake_quantize
from incref.qtensor.spec import QuantSpec
from incref.qtensor.straight_through import straight_through

__all__ = ["InputQuantizer", "round_elementwise"]


@dataclass(frozen=True, kw_only=True)
class InputQuantizer:
    """Rounds and quantizes the input of a layer, and dequantizes it again.

    Gradients go straight through.

    Attributes:
        elementwise: what it is rounded to first, element by element; None for nothing.
        activation: how it is quantized then; None not at all.
        scale_method: how a scale is found in every call; None for the rule of `activation`.
        by: what quantizes and dequantizes; None for the operations themselves.
    """

    elementwise: Elementwise | None = None
    activation: QuantSpec | None = None
    scale_method: MaxAbsScale | None = None
    by: Quantizers | None = None

    def __call__(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Give what the layer multiplies with, in the dtype of x.

        Args:
            x: the input.
            scale: one to use instead of one that is found.
        """
        if self.elementwise is not None:
            x = round_elementwise(x, self.elementwise)
        if self.activation is None:
            return x
        values = x.detach()
        if scale is None and self.scale_method is not None:
            scale = search_scale(values, self.activation, self.scale_method)
        random_bits = draw_random_bits(values, self.activation.rounding)
        return straight_through(
            x, fake_quantize(values, self.activation, scale, random_bits=random_bits, by=self.by or REFERENCE)
        )


def round_elementwise(x: Tensor, elementwise: Elementwise) -> Tensor:
    """Round every element of x to the format of `elementwise`; dtype and gradient are those of x."""
    codes = encode(
        x.detach(),
        elementwise.fmt,
        rounding=elementwise.rounding,
        overflow=Overflow.NONSATURATE,
        random_bits=draw_random_bits(x, elementwise.rounding),
    )
    return straight_through(x, decode(codes, elementwise.fmt, dtype=torch.float32).to(x.dtype))
