"""`QuantConv2d`: a convolution with a quantized weight."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from incref.modules.layer import QuantLayer

__all__ = ["Geometry", "QuantConv2d"]

_Pair = tuple[int, int]
_PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where a convolution looks; the fields are those of `nn.Conv2d`."""

    stride: _Pair = (1, 1)
    padding: _Pair | str = (0, 0)
    dilation: _Pair = (1, 1)
    groups: int = 1
    padding_mode: _PaddingMode = "zeros"

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "Geometry":
        """That of `layer`."""
        padding = layer.padding if isinstance(layer.padding, str) else _pair(layer.padding)
        return cls(
            stride=_pair(layer.stride),
            padding=padding,
            dilation=_pair(layer.dilation),
            groups=layer.groups,
            padding_mode=layer.padding_mode,
        )


class QuantConv2d(QuantLayer):
    """Convolve x [B, C, H, W] with the dequantized weight [N, C / groups, kh, kw], in the dtype of x.

    For arguments see `QuantLayer`.

    Attributes:
        geometry: stride, padding, dilation, groups.
        out_channels: N.
        kernel_size: (kh, kw).
    """

    geometry = Geometry()

    def take_over(self, layer: nn.Module) -> None:
        """Take over stride, padding, dilation and groups."""
        assert isinstance(layer, nn.Conv2d)
        self.geometry = Geometry.of(layer)

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4:
            raise ValueError(f"the weight of a convolution has the shape [N, C / groups, kh, kw], got {shape}")
        self.out_channels, self.kernel_size = shape[0], shape[2:]

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.geometry
        padding = g.padding
        if g.padding_mode != "zeros":
            x, padding = F.pad(x, _border(self.kernel_size, g), mode=g.padding_mode), (0, 0)
        return F.conv2d(x, weight, bias, g.stride, padding, g.dilation, g.groups)

    def _spread(self, bias: Tensor) -> Tensor:
        return bias[:, None, None]

    def _describe(self) -> str:
        g = self.geometry
        channels = f"{self._shape[1] * g.groups}, {self.out_channels}, kernel_size={tuple(self.kernel_size)}"
        return f"{channels}, stride={g.stride}, padding={g.padding}, bias={self.bias is not None}"


def _border(kernel_size: tuple[int, ...], geometry: Geometry) -> list[int]:
    """What is added on each side, from the last dimension on; of "same" padding the larger half goes to the end."""
    sides: list[int] = []
    for d in (1, 0):
        if isinstance(geometry.padding, str):
            total = geometry.dilation[d] * (kernel_size[d] - 1) if geometry.padding == "same" else 0
            sides += [total // 2, total - total // 2]
        else:
            sides += [geometry.padding[d]] * 2
    return sides


def _pair(values: tuple[int, ...]) -> _Pair:
    first, second = values
    return first, second
