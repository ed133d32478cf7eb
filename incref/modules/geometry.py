"""`Geometry`: where a convolution looks."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

__all__ = ["Geometry", "border"]

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

    @property
    def pad_mode(self) -> str:
        """What `torch.nn.functional.pad` calls `padding_mode`."""
        return "constant" if self.padding_mode == "zeros" else self.padding_mode


def border(kernel_size: tuple[int, ...], geometry: Geometry) -> list[int]:
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
