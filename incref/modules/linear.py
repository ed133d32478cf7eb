"""`QuantLinear`: a linear layer with a quantized weight."""

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.algorithms.maxabs import search_scale
from incref.errors import UnsupportedError
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.input import round_elementwise
from incref.modules.integer import integer_linear
from incref.modules.layer import QuantLayer
from incref.modules.output import multiply_and_add
from incref.modules.product import LinearInput, Product, find_product
from incref.numerics.granularity import Granularity
from incref.qtensor.parts import Parts

__all__ = ["QuantLinear"]


class QuantLinear(QuantLayer):
    """Compute `y = x @ dequantize(weight).T + bias` for x [..., K], in the dtype of x. For arguments see `QuantLayer`.

    Attributes:
        in_features: K.
        out_features: N.
    """

    _product: Product | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x, by its kernel if it has one that takes x."""
        if self._product is None:
            return super().forward(x)
        y = self._run(self._product, x)
        if not isinstance(y, str):
            return y
        if self._binding.falls_back:
            return super().forward(x)
        raise UnsupportedError(
            f"{self._product.op} on backend {self._product.backend!r} declines this input: {y}; "
            'bind with fallback="reference" to let the reference compute then'
        )

    @property
    def kernel(self) -> str:
        """What multiplies: "reference", or a backend and its operation, such as "cpu int8_matmul"."""
        return super().kernel if self._product is None else f"{self._product.backend} {self._product.op}"

    def _find_kernels(self, binding: Binding, device_type: str) -> None:
        self._product = None
        given = LinearInput(
            activation=self.activation,
            scale_method=self.scale_method,
            scale=self.input_scale,
            zero_point=self.input_zero_point,
            multiplies_integers=self._multiplies_integers,
        )
        reasons = []
        for backend in binding.backends(device_type):
            found = find_product(self.qweight, given, backend, same_factors=not binding.names_one)
            if isinstance(found, Product):
                self._product = found
                return
            reasons.append(f"backend {backend.name!r} has no kernel: {found}")
        if reasons and not binding.falls_back:
            self._binding = REFERENCE_ONLY
            raise UnsupportedError("; ".join(reasons))

    def _run(self, product: Product, x: Tensor) -> Tensor | str:
        """Apply the layer by its kernel, or give the reason why that can't."""
        if torch.is_grad_enabled() and x.requires_grad:
            return "it computes no gradients, and the input needs one"
        if self.input_factor is not None:
            x = (x * self.input_factor).to(x.dtype)
        if product.activation is None:
            x = self._quantizer(x, self.input_scale)
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return self._finish(product.multiply(x, bias if self.elementwise is None else None), bias)
        if self.elementwise is not None:
            x = round_elementwise(x, self.elementwise)
        scale = self.input_scale
        if scale is None and self.scale_method is not None:
            scale = search_scale(x, product.activation, self.scale_method)
        parts = self._quantize(x, product.activation, scale)
        # Products of integers add the bias as it is; others as the reference path has it.
        bias = self.bias if self._multiplies_integers or self.bias is None else self.bias.to(x.dtype)
        return self._finish(product.multiply_codes(parts, bias if self.elementwise is None else None, x.dtype), bias)

    def _finish(self, product: Tensor | str, bias: Tensor | None) -> Tensor | str:
        """Round and add the bias where that is done element by element."""
        if isinstance(product, str) or self.elementwise is None:
            return product
        return multiply_and_add(lambda _: product, bias, spread=self._spread, elementwise=self.elementwise)

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
