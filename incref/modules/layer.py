"""`QuantLayer`: what all layers with a quantized weight have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from incref.config.maxabs import MaxAbsScale
from incref.config.scheme import Elementwise
from incref.errors import UnsupportedError
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.input import InputQuantizer
from incref.modules.integer import multiplies_integers
from incref.modules.kept_buffers import KeptBuffers
from incref.modules.output import multiply_and_add
from incref.numerics.granularity import Granularity
from incref.qtensor.parts import REFERENCE, Parts, draw_random_bits, quantize_parts
from incref.qtensor.qtensor import TENSORS, QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["QuantLayer"]

_PREFIX = "weight_"


class QuantLayer(KeptBuffers, ABC):
    """A layer that applies its dequantized weight to its input, which it may quantize and dequantize first.

    Where both are integers, these are multiplied, and the sums scaled: see `multiplies_integers` and `int8_matmul`.

    The codes and scales are buffers named "weight_packed", "weight_scale", ..., a static scale of the input is the
    buffer "input_scale", its zero point "input_zero_point". Casting the module to another dtype leaves them alone.

    Attributes:
        activation: how the input is quantized and dequantized in every call; None not at all.
        elementwise: what the input, the product and the sum with the bias are rounded to; None for the dtype of x.
        scale_method: how a scale of the input is found in every call; None for the rule of `activation`.
        input_scale: a static scale of the input, float32 [], or None.
        input_zero_point: the one that goes with it, int32 [], or None.
        input_factor: what the features of the input are multiplied with first, float32 [K], or None.
        cache_weight: whether the dequantized weight is kept from one call to the next, where it is needed.
    """

    bias: nn.Parameter | None
    input_scale: Tensor | None
    input_zero_point: Tensor | None
    input_factor: Tensor | None

    def __init__(
        self,
        qweight: QTensor,
        bias: Tensor | None = None,
        activation: QuantSpec | None = None,
        *,
        elementwise: Elementwise | None = None,
        scale_method: MaxAbsScale | None = None,
        input_scale: Tensor | None = None,
        input_zero_point: Tensor | None = None,
        input_factor: Tensor | None = None,
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
            input_zero_point: the one that goes with it.
            input_factor: what features of the input are multiplied with.
            cache_weight: whether the dequantized weight is kept.

        Raises:
            ValueError: if a tensor has a dtype or a shape that the layer can't have, a zero point is there without a
                scale or the other way round, or integers are multiplied and rounded element by element.
        """
        super().__init__()
        self._take_shape(qweight.shape)
        if bias is not None and tuple(bias.shape) != qweight.shape[:1]:
            raise ValueError(f"the bias must have shape {qweight.shape[:1]}, got {tuple(bias.shape)}")
        _check("input_scale", input_scale, torch.float32, ())
        _check("input_zero_point", input_zero_point, torch.int32, ())
        _check("input_factor", input_factor, torch.float32, qweight.shape[1:2])
        has_zero_point = input_scale is not None and activation is not None and not activation.symmetric
        if (input_zero_point is not None) != has_zero_point:
            raise ValueError("an input_zero_point goes with the input_scale of an input that is not symmetric")
        self._multiplies_integers = multiplies_integers(qweight.spec, activation, len(qweight.shape))
        if self._multiplies_integers and elementwise is not None:
            raise ValueError("the product of integers is rounded as int8_matmul says; leave elementwise out")
        self._spec, self._shape = qweight.spec, qweight.shape
        self._dtype, self._layout = qweight.dtype, qweight.layout
        for name, tensor in qweight.to_tensors().items():
            self.register_buffer(f"{_PREFIX}{name}", tensor)
        self.register_buffer("input_scale", input_scale)
        self.register_buffer("input_zero_point", input_zero_point)
        self.register_buffer("input_factor", input_factor)
        self.register_parameter("bias", None if bias is None else _as_parameter(bias))
        self.activation = activation
        self.elementwise = elementwise
        self.scale_method = scale_method
        self.cache_weight = cache_weight
        self._cached: Tensor | None = None
        self._binding = REFERENCE_ONLY
        self._quantizers = REFERENCE

    def bind(self, binding: Binding) -> None:
        """Compute by the kernels of a backend from now on; `incref.modules.product` says which.

        What quantizes the input gives the same bits everywhere. A module on the meta device is bound when it leaves it.

        Raises:
            UnsupportedError: if the named backend has no kernel for what this layer computes, and nothing else may.
        """
        self._binding = binding
        device = self.qweight.device
        if device.type != "meta":
            self._quantizers = binding.quantizers(device.type, self.input_scale)
            self._find_kernels(binding, device.type)

    @property
    def kernel(self) -> str:
        """What multiplies: "reference", or a backend and its operation, such as "cpu int8_matmul"."""
        return REFERENCE_ONLY.backend

    def _find_kernels(self, binding: Binding, device_type: str) -> None:
        """Find what multiplies; PyTorch does where that is no operation."""

    @property
    def qweight(self) -> QTensor:
        """The quantized weight; its tensors are the buffers of the module."""
        tensors = {name: self._buffers.get(f"{_PREFIX}{name}") for name in TENSORS}
        return QTensor(
            **tensors,  # type: ignore[arg-type]  # those that a weight has to have are there
            spec=self._spec,
            shape=self._shape,
            dtype=self._dtype,
            layout=self._layout,
        )

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, in the dtype that it had; for code that reads the weights of a model."""
        return self._dequantized(self._dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x."""
        if self.input_factor is not None:
            x = (x * self.input_factor).to(x.dtype)
        return self._multiply(x) if self._multiplies_integers else self._multiply_values(x)

    def _multiply_values(self, x: Tensor) -> Tensor:
        """Multiply with the dequantized weight."""
        x = self._quantizer(x, self.input_scale)
        weight = self._dequantized(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return multiply_and_add(
            lambda b: self._apply_weight(x, weight, b), bias, spread=self._spread, elementwise=self.elementwise
        )

    @property
    def _quantizer(self) -> InputQuantizer:
        return InputQuantizer(
            elementwise=self.elementwise,
            activation=self.activation,
            scale_method=self.scale_method,
            by=self._quantizers,
        )

    @contextmanager
    def keeping_weight(self) -> Iterator[None]:
        """Keep the dequantized weight from one call to the next until the block ends."""
        keeps, self.cache_weight = self.cache_weight, True
        try:
            yield
        finally:
            self.cache_weight = keeps
            self._cached = self._cached if keeps else None

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

    def _apply_codes(self, x: Parts, x_granularity: Granularity, dtype: torch.dtype) -> Tensor:
        """Multiply the codes of x with those of the weight."""
        del x, x_granularity, dtype
        raise UnsupportedError(f"{type(self).__name__} does not multiply integers; quantize its weight alone")

    def _multiply(self, x: Tensor) -> Tensor:
        """Multiply integers."""
        assert self.activation is not None
        parts = self._quantize(x, self.activation, self.input_scale)
        return self._apply_codes(parts, self.activation.granularity, x.dtype)

    def _quantize(self, x: Tensor, activation: QuantSpec, scale: Tensor | None) -> Parts:
        return quantize_parts(
            x,
            activation,
            scale,
            self.input_zero_point,
            random_bits=draw_random_bits(x, activation.rounding),
            by=self._quantizers,
        )

    def extra_repr(self) -> str:
        """Shape, format, and the bits that a weight takes with all its scales."""
        qweight = self.qweight
        parts = [self._describe(), f"weight={qweight.spec.fmt.name} ({qweight.bits_per_element:.4g} bits)"]
        if self.activation is not None:
            parts.append(f"activation={self.activation.fmt.name}")
        if self.input_scale is not None:
            parts.append("static")
        if self.input_factor is not None:
            parts.append("smoothed")
        if self.kernel != REFERENCE_ONLY.backend:
            parts.append(f"kernel={self.kernel}")
        return ", ".join(parts)

    def _dequantized(self, dtype: torch.dtype) -> Tensor:
        cached = self._cached
        if cached is not None and self.cache_weight and cached.dtype is dtype:
            return cached
        weight = self.qweight.dequantize(dtype)
        self._cached = weight if self.cache_weight else None
        return weight

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # as in nn.Module
        """Read the tensors, and give them to the kernels."""
        super()._load_from_state_dict(*args, **kwargs)
        self._cached = None
        if self._binding != REFERENCE_ONLY:
            self.bind(self._binding)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module, forget the dequantized weight, and find kernels for where it is now."""
        super()._apply(fn, recurse)
        self._cached = None
        if self._binding != REFERENCE_ONLY:
            self.bind(self._binding)
        return self


def _check(name: str, tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor is not None and (tensor.dtype is not dtype or tuple(tensor.shape) != shape):
        raise ValueError(f"{name} must be {dtype} of shape {shape}, got {tensor.dtype} of {tuple(tensor.shape)}")


def _as_parameter(bias: Tensor) -> nn.Parameter:
    return bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
