"""`QuantConv2d`: a convolution with a quantized weight."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.errors import UnsupportedError
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.geometry import Geometry, border
from incref.modules.integer import integer_conv2d
from incref.modules.layer import QuantLayer
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops.int8_matmul import int8_matmul
from incref.qtensor.parts import Parts

__all__ = ["QuantConv2d"]


class QuantConv2d(QuantLayer):
    """Convolve x [B, C, H, W] with the dequantized weight [N, C / groups, kh, kw], in the dtype of x.

    The weight may be stored as the matrix [N, C / groups * kh * kw]. For arguments see `QuantLayer`.

    Attributes:
        geometry: stride, padding, dilation, groups.
        out_channels: N.
        kernel_size: (kh, kw).
    """

    geometry = Geometry()
    _matmul: Callable[..., Tensor] = staticmethod(int8_matmul.reference)
    _matmul_name = REFERENCE_ONLY.backend
    kernel_size: tuple[int, ...] = (1, 1)

    def take_over(self, layer: nn.Module) -> None:
        """Take over stride, padding, dilation, groups and the size of the kernel."""
        assert isinstance(layer, nn.Conv2d)
        self.geometry = Geometry.of(layer)
        self.kernel_size = tuple(layer.kernel_size)

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) not in (2, 4):
            raise ValueError(
                f"the weight of a convolution has the shape [N, C / groups, kh, kw], or is a matrix, got {shape}"
            )
        self.out_channels = shape[0]
        if len(shape) == 4:
            self.kernel_size = shape[2:]

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.geometry
        padding = g.padding
        if g.padding_mode != "zeros":
            x, padding = F.pad(x, border(self.kernel_size, g), mode=g.padding_mode), (0, 0)
        weight = weight.view(self.out_channels, -1, *self.kernel_size)
        return F.conv2d(x, weight, bias, g.stride, padding, g.dilation, g.groups)

    def _apply_codes(self, x: Parts, x_granularity: Granularity, dtype: torch.dtype) -> Tensor:
        if x_granularity != PER_TENSOR:
            raise UnsupportedError(
                f"a convolution multiplies integers with one scale for its input, not {x_granularity}"
            )
        return integer_conv2d(
            x, self.qweight.parts, self.bias, self.kernel_size, self.geometry, dtype=dtype, matmul=self._matmul
        )

    def _find_kernels(self, binding: Binding, device_type: str) -> None:
        self._matmul, self._matmul_name = int8_matmul.reference, REFERENCE_ONLY.backend
        if not self._multiplies_integers:
            return
        for backend in binding.backends(device_type):
            if int8_matmul.name in backend.kernels:
                fallback = REFERENCE_ONLY.backend if binding.falls_back else None
                self._matmul = int8_matmul.on(backend, fallback=fallback)
                self._matmul_name = f"{backend.name} {int8_matmul.name}"
                return
        if not binding.falls_back:
            raise UnsupportedError(f"backend {binding.backend!r} has no kernel for {int8_matmul.name}")

    @property
    def kernel(self) -> str:
        """What multiplies, as for `QuantLinear`."""
        return self._matmul_name

    def _spread(self, bias: Tensor) -> Tensor:
        return bias[:, None, None]

    def _describe(self) -> str:
        g = self.geometry
        area = self.kernel_size[0] * self.kernel_size[1]
        in_channels = self._shape[1] * g.groups // (area if len(self._shape) == 2 else 1)
        channels = f"{in_channels}, {self.out_channels}, kernel_size={tuple(self.kernel_size)}"
        return f"{channels}, stride={g.stride}, padding={g.padding}, bias={self.bias is not None}"
