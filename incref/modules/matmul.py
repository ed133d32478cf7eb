"""`QuantMatmul`: a product of two activations that are quantized first."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.algorithms.maxabs import search_scale
from incref.errors import UnsupportedError
from incref.formats import FloatFormat
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.input import round_elementwise
from incref.modules.quant_inputs import QuantInputs
from incref.nn.matmul import Matmul
from incref.numerics.granularity import PER_TENSOR
from incref.ops.fp8_bmm import fp8_bmm
from incref.qtensor.parts import Parts, draw_random_bits, quantize_parts

__all__ = ["QuantMatmul"]


class QuantMatmul(QuantInputs):
    """Compute `torch.matmul(x, y)` of x [..., M, K] and y [..., K, N], quantized and dequantized.

    Both factors are quantized alike, y as its transpose: blocks and tokens lie along K in either. The product is
    rounded to what the scheme says. A backend that is named and has a kernel for `fp8_bmm` multiplies codes of 8-bit
    floats where each factor has one scale; elsewhere PyTorch multiplies dequantized values. For arguments see
    `QuantInputs`.
    """

    arguments = Matmul.arguments
    _multiply: Callable[..., Tensor] | None = None
    _kernel = REFERENCE_ONLY.backend

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Quantize, and multiply, by the kernel if there is one.

        Raises:
            ValueError: for a factor that is no matrix.
            UnsupportedError: if the kernel declines the factors, or a factor needs a gradient, and nothing else may
                compute.
        """
        if min(x.ndim, y.ndim) < 2:
            raise ValueError(
                f"factors are matrices or batches of them, got shapes {tuple(x.shape)} and {tuple(y.shape)}"
            )
        if self._multiply is not None:
            if not (torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)):
                return self._multiply_codes(x, y, self._multiply)
            if not self._binding.falls_back:
                raise UnsupportedError(
                    f"{self.kernel} computes no gradients, and a factor needs one; "
                    'bind with fallback="reference" to let the reference compute then'
                )
        product = torch.matmul(self._quantize("x", x), self._quantize("y", y, is_transposed=True))
        return product if self.scheme.elementwise is None else round_elementwise(product, self.scheme.elementwise)

    def bind(self, binding: Binding, device_type: str) -> None:
        """Quantize, and multiply codes, by the kernels of a backend from now on."""
        super().bind(binding, device_type)
        self._multiply, self._kernel = None, REFERENCE_ONLY.backend
        if not binding.names_one or not self._multiplies_float8:
            return
        for backend in binding.backends(device_type):
            if fp8_bmm.name in backend.kernels:
                fallback = REFERENCE_ONLY.backend if binding.falls_back else None
                known = backend.with_scales(fp8_bmm.name, x_scale=self._scale("x"), y_scale=self._scale("y"))
                self._multiply = fp8_bmm.on(known, fallback=fallback)
                self._kernel = f"{backend.name} {fp8_bmm.name}"

    @property
    def kernel(self) -> str:
        """What multiplies: "reference", or a backend and its operation, such as "hpu fp8_bmm"."""
        return self._kernel

    def extra_repr(self) -> str:
        """What happens to inputs, and what multiplies."""
        described = super().extra_repr()
        return described if self._multiply is None else f"{described}, kernel={self.kernel}"

    @property
    def _multiplies_float8(self) -> bool:
        """Whether codes are 8-bit floats, with one scale for each factor."""
        spec = self.scheme.activation
        is_float = isinstance(spec.fmt, FloatFormat) and spec.fmt.bits == 8
        return is_float and spec.granularity == PER_TENSOR and self.scheme.elementwise is None

    def _multiply_codes(self, x: Tensor, y: Tensor, multiply: Callable[..., Tensor]) -> Tensor:
        left, right, fmt = self._codes("x", x), self._codes("y", y), self.scheme.activation.fmt
        return multiply(left.codes, right.codes, left.scale, right.scale, x_fmt=fmt, y_fmt=fmt, dtype=x.dtype)

    def _codes(self, name: str, x: Tensor) -> Parts:
        spec, scale = self.scheme.activation, self._scale(name)
        if scale is None and self.scheme.input_scale is not None:
            scale = search_scale(x, spec, self.scheme.input_scale)
        random_bits = draw_random_bits(x, spec.rounding)
        return quantize_parts(x, spec, scale, random_bits=random_bits, by=self._quantizers[name])
