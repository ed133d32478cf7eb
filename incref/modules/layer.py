"""`QuantLayer`: what all layers with a quantized weight have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self

from incref.config.maxabs import MaxAbsScale
from incref.config.scheme import Elementwise
from incref.modules.input import InputQuantizer
from incref.modules.kept_buffers import KeptBuffers
from incref.modules.output import multiply_and_add
from incref.qtensor.qtensor import TENSORS, QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["QuantLayer"]

_PREFIX = "weight_"


class QuantLayer(KeptBuffers, ABC):
    """A layer that applies its dequantized weight to its input, which it may quantize and dequantize first.

    The codes and scales are buffers named "weight_packed", "weight_scale", ..., a static scale of the input is the
    buffer "input_scale". Casting the module to another dtype leaves them alone.

    Attributes:
        activation: how the input is quantized and dequantized in every call; None not at all.
        elementwise: what the input, the product and the sum with the bias are rounded to; None for the dtype of x.
        scale_method: how a scale of the input is found in every call; None for the rule of `activation`.
        input_scale: a static scale of the input, float32 [], or None.
        cache_weight: whether the dequantized weight is kept from one call to the next.
    """

    bias: nn.Parameter | None
    input_scale: Tensor | None

    def __init__(
        self,
        qweight: QTensor,
        bias: Tensor | None = None,
        activation: QuantSpec | None = None,
        *,
        elementwise: Elementwise | None = None,
        scale_method: MaxAbsScale | None = None,
        input_scale: Tensor | None = None,
        cache_weight: bool = False,
    ) -> None:
        """Make the layer.

        Args:
            qweight: its first dimension is that of the output.
            bias: [N], or None.
            activation: how inputs are quantized.
            elementwise: what vector operations round to.
            scale_method: how scales of inputs are found.
            input_scale: a static one.
            cache_weight: whether the dequantized weight is kept.

        Raises:
            ValueError: if `qweight` or `bias` has a shape that the layer can't have, or `input_scale` is no float32 of
                shape ().
        """
        super().__init__()
        self._take_shape(qweight.shape)
        if bias is not None and tuple(bias.shape) != qweight.shape[:1]:
            raise ValueError(f"the bias must have shape {qweight.shape[:1]}, got {tuple(bias.shape)}")
        if input_scale is not None and (input_scale.dtype is not torch.float32 or input_scale.shape != ()):
            raise ValueError(
                f"input_scale must be torch.float32 of shape (), got {input_scale.dtype} of {tuple(input_scale.shape)}"
            )
        self._spec, self._shape, self._dtype = qweight.spec, qweight.shape, qweight.dtype
        for name, tensor in qweight.to_tensors().items():
            self.register_buffer(f"{_PREFIX}{name}", tensor)
        self.register_buffer("input_scale", input_scale)
        self.register_parameter("bias", None if bias is None else _as_parameter(bias))
        self.activation = activation
        self.elementwise = elementwise
        self.scale_method = scale_method
        self.cache_weight = cache_weight
        self._cached: Tensor | None = None

    @property
    def qweight(self) -> QTensor:
        """The quantized weight; its tensors are the buffers of the module."""
        tensors = {name: self._buffers.get(f"{_PREFIX}{name}") for name in TENSORS}
        return QTensor(**tensors, spec=self._spec, shape=self._shape, dtype=self._dtype)  # type: ignore[arg-type]  # those that a weight has to have are there

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, in the dtype that it had; for code that reads the weights of a model."""
        return self._dequantized(self._dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x."""
        quantizer = InputQuantizer(
            elementwise=self.elementwise, activation=self.activation, scale_method=self.scale_method
        )
        x = quantizer(x, self.input_scale)
        weight = self._dequantized(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return multiply_and_add(
            lambda b: self._apply_weight(x, weight, b), bias, spread=self._spread, elementwise=self.elementwise
        )

    def take_over(self, layer: nn.Module) -> None:
        """Take over what a float layer of the same kind has beside weight and bias."""

    @abstractmethod
    def _take_shape(self, shape: tuple[int, ...]) -> None:
        """Check the shape of the weight, and keep what it says."""

    @abstractmethod
    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute what the float layer does."""

    @abstractmethod
    def _spread(self, bias: Tensor) -> Tensor:
        """Give `bias` the dimensions that it needs to be added to an output."""

    @abstractmethod
    def _describe(self) -> str:
        """Say what distinguishes the float layer."""

    def extra_repr(self) -> str:
        """Shape, format, and the bits that a weight takes with all its scales."""
        qweight = self.qweight
        parts = [self._describe(), f"weight={qweight.spec.fmt.name} ({qweight.bits_per_element:.4g} bits)"]
        if self.activation is not None:
            parts.append(f"activation={self.activation.fmt.name}")
        if self.input_scale is not None:
            parts.append("static")
        return ", ".join(parts)

    def _dequantized(self, dtype: torch.dtype) -> Tensor:
        cached = self._cached
        if cached is not None and self.cache_weight and cached.dtype is dtype:
            return cached
        weight = self.qweight.dequantize(dtype)
        self._cached = weight if self.cache_weight else None
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module, and forget the dequantized weight."""
        super()._apply(fn, recurse)
        self._cached = None
        return self


def _as_parameter(bias: Tensor) -> nn.Parameter:
    return bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
