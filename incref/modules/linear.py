"""`QuantLinear`: a linear layer with a quantized weight."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from incref.config.scheme import Elementwise
from incref.modules.input import InputQuantizer, round_elementwise
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["QuantLinear"]


class QuantLinear(nn.Module):
    """Compute `y = x @ dequantize(weight).T + bias`, in the dtype of x.

    The codes and scales are buffers named "weight_packed", "weight_scale", ... Casting the module to another dtype
    leaves them alone.

    Attributes:
        in_features: K.
        out_features: N.
        activation: how the input is quantized and dequantized in every call, along its last dimension; None not at all.
        elementwise: what the input, the product and the sum with the bias are rounded to; None for the dtype of x.
        cache_weight: whether the dequantized weight is kept from one call to the next.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        qweight: QTensor,
        bias: Tensor | None = None,
        activation: QuantSpec | None = None,
        *,
        elementwise: Elementwise | None = None,
        cache_weight: bool = False,
    ) -> None:
        """Make the layer.

        Args:
            qweight: [N, K].
            bias: [N], or None.
            activation: how inputs are quantized.
            elementwise: what vector operations round to.
            cache_weight: whether the dequantized weight is kept.

        Raises:
            ValueError: if `qweight` is not a matrix or `bias` has not its number of rows.
        """
        super().__init__()
        if len(qweight.shape) != 2:
            raise ValueError(f"the weight of a linear layer is a matrix [N, K], got shape {qweight.shape}")
        self.out_features, self.in_features = qweight.shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(f"the bias must have shape ({self.out_features},), got {tuple(bias.shape)}")
        self._spec, self._shape, self._dtype = qweight.spec, qweight.shape, qweight.dtype
        for name, tensor in qweight.to_tensors().items():
            self.register_buffer(f"weight_{name}", tensor)
        self.register_parameter("bias", None if bias is None else _as_parameter(bias))
        self.activation = activation
        self.elementwise = elementwise
        self.cache_weight = cache_weight
        self._cached: Tensor | None = None

    @property
    def qweight(self) -> QTensor:
        """The quantized weight; its tensors are the buffers of the module."""
        tensors = {name.removeprefix("weight_"): buffer for name, buffer in self.named_buffers()}
        return QTensor(
            packed=tensors["packed"],
            scale=tensors["scale"],
            zero_point=tensors.get("zero_point"),
            tensor_scale=tensors.get("tensor_scale"),
            order=tensors.get("order"),
            spec=self._spec,
            shape=self._shape,
            dtype=self._dtype,
        )

    @property
    def weight(self) -> Tensor:
        """The dequantized weight [N, K], in the dtype that it had; for code that reads the weights of a model."""
        return self._dequantized(self._dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x [..., K]."""
        x = InputQuantizer(elementwise=self.elementwise, activation=self.activation)(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.elementwise is None:
            return F.linear(x, self._dequantized(x.dtype), bias)
        y = round_elementwise(F.linear(x, self._dequantized(x.dtype)), self.elementwise)
        return y if bias is None else round_elementwise(y + round_elementwise(bias, self.elementwise), self.elementwise)

    def extra_repr(self) -> str:
        """Shape, format, and the bits that a weight takes with all its scales."""
        qweight = self.qweight
        parts = [
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}",
            f"weight={qweight.spec.fmt.name} ({qweight.bits_per_element:.4g} bits)",
        ]
        if self.activation is not None:
            parts.append(f"activation={self.activation.fmt.name}")
        return ", ".join(parts)

    def _dequantized(self, dtype: torch.dtype) -> Tensor:
        cached = self._cached
        if cached is not None and self.cache_weight and cached.dtype is dtype:
            return cached
        weight = self.qweight.dequantize(dtype)
        self._cached = weight if self.cache_weight else None
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module, but keep the dtype of scales, which a cast of the model would round."""
        kept = {name: buffer.dtype for name, buffer in self._buffers.items() if buffer is not None}
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # untyped in torch
        for name, dtype in kept.items():
            moved, old = self._buffers[name], before[name]
            assert moved is not None
            assert old is not None
            if moved.dtype is not dtype:
                self._buffers[name] = old.to(moved.device)
        self._cached = None
        return self


def _as_parameter(bias: Tensor) -> nn.Parameter:
    return bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
