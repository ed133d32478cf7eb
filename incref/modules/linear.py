"""`QuantLinear`: a linear layer with a quantized weight."""

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.modules.integer import integer_linear
from incref.modules.layer import QuantLayer
from incref.numerics.granularity import Granularity
from incref.qtensor.parts import Parts

__all__ = ["QuantLinear"]


class QuantLinear(QuantLayer):
    """Compute `y = x @ dequantize(weight).T + bias` for x [..., K], in the dtype of x. For arguments see `QuantLayer`.

    Attributes:
        in_features: K.
        out_features: N.
    """

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 2:
            raise ValueError(f"the weight of a linear layer is a matrix [N, K], got shape {shape}")
        self.out_features, self.in_features = shape

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _apply_codes(self, x: Parts, x_granularity: Granularity, dtype: torch.dtype) -> Tensor:
        return integer_linear(x, self.qweight.parts, x_granularity=x_granularity, bias=self.bias, dtype=dtype)

    def _spread(self, bias: Tensor) -> Tensor:
        return bias

    def _describe(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
