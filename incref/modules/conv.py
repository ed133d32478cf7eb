"""`QuantConv2d`: a convolution with a quantized weight."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.algorithms.maxabs import search_scale
from incref.errors import UnsupportedError
from incref.formats import FloatFormat
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.geometry import Geometry, border
from incref.modules.integer import integer_conv2d
from incref.modules.layer import QuantLayer
from incref.numerics.granularity import PER_TENSOR, Granularity, per_channel
from incref.ops.fp8_conv2d import PER_FILTER, fp8_conv2d
from incref.ops.int8_matmul import int8_matmul
from incref.qtensor.parts import Parts

__all__ = ["QuantConv2d"]


class QuantConv2d(QuantLayer):
    """Convolve x [B, C, H, W] with the dequantized weight [N, C / groups, kh, kw], in the dtype of x.

    A backend that is named and has a kernel for `fp8_conv2d` convolves codes of 8-bit floats where one scale is for all
    of the input; elsewhere PyTorch convolves dequantized values.

    The weight may be stored as the matrix [N, C / groups * kh * kw]. For arguments see `QuantLayer`.

    Attributes:
        geometry: stride, padding, dilation, groups.
        out_channels: N.
        kernel_size: (kh, kw).
    """

    geometry = Geometry()
    _matmul: Callable[..., Tensor] = staticmethod(int8_matmul.reference)
    _matmul_name = REFERENCE_ONLY.backend
    _convolve: Callable[..., Tensor] | None = None
    kernel_size: tuple[int, ...] = (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x, by its kernel if it has one."""
        if self._convolve is None:
            return super().forward(x)
        if torch.is_grad_enabled() and x.requires_grad:
            if self._binding.falls_back:
                return super().forward(x)
            raise UnsupportedError(
                f"{self._matmul_name} computes no gradients, and the input needs one; "
                'bind with fallback="reference" to let the reference compute then'
            )
        return self._apply_float8(x, self._convolve)

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

    def _apply_float8(self, x: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
        """Convolve codes; what a border has that is no zeros is added to the values."""
        assert self.activation is not None
        g, weight = self.geometry, self.qweight
        if self.input_factor is not None:
            x = (x * self.input_factor).to(x.dtype)
        padding = g.padding
        if g.padding_mode != "zeros" or isinstance(padding, str):
            x, padding = F.pad(x, border(self.kernel_size, g), mode=g.pad_mode), (0, 0)
        scale = self.input_scale
        if scale is None and self.scale_method is not None:
            scale = search_scale(x, self.activation, self.scale_method)
        parts = self._quantize(x, self.activation, scale)
        is_per_filter = weight.scale.ndim > 0
        y = convolve(
            parts.codes if x.ndim == 4 else parts.codes[None],
            weight.parts.codes.view(self.out_channels, -1, *self.kernel_size),
            parts.scale,
            weight.scale.view(-1, 1, 1, 1) if is_per_filter else weight.scale,
            x_fmt=self.activation.fmt,
            w_fmt=weight.spec.fmt,
            w_granularity=PER_FILTER if is_per_filter else PER_TENSOR,
            stride=g.stride,
            padding=padding,
            dilation=g.dilation,
            groups=g.groups,
            bias=None if self.bias is None else self.bias.to(x.dtype),
            dtype=x.dtype,
        )
        return y if x.ndim == 4 else y[0]

    @property
    def _convolves_float8(self) -> bool:
        """Whether codes are 8-bit floats, with one scale for the input, and one for all filters or for each."""
        spec, activation, ndim = self.qweight.spec, self.activation, len(self._shape)
        if activation is None or self.elementwise is not None:
            return False
        are_floats = all(isinstance(one.fmt, FloatFormat) and one.fmt.bits == 8 for one in (spec, activation))
        is_scaled = spec.granularity in (PER_TENSOR, per_channel(0, ndim=ndim))
        return are_floats and is_scaled and activation.granularity == PER_TENSOR

    def _find_kernels(self, binding: Binding, device_type: str) -> None:
        self._matmul, self._matmul_name, self._convolve = int8_matmul.reference, REFERENCE_ONLY.backend, None
        if not self._multiplies_integers:
            for backend in binding.backends(device_type):
                if binding.names_one and self._convolves_float8 and fp8_conv2d.name in backend.kernels:
                    fallback = REFERENCE_ONLY.backend if binding.falls_back else None
                    scales = {"x_scale": self.input_scale, "w_scale": self.qweight.scale}
                    is_per_filter = self.qweight.scale.ndim > 0
                    known = backend if is_per_filter else backend.with_scales(fp8_conv2d.name, **scales)
                    self._convolve = fp8_conv2d.on(known, fallback=fallback)
                    self._matmul_name = f"{backend.name} {fp8_conv2d.name}"
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
