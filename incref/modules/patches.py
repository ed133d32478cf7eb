"""What a convolution multiplies its weight with, as the rows of a matrix."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from incref.modules.geometry import Geometry, border
from incref.modules.input import InputQuantizer

__all__ = ["Patches"]


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Unfolds the input of a convolution.

    Attributes:
        geometry: where the convolution looks.
        kernel_size: (kh, kw).
        quantizer: what happens to the input first.
    """

    geometry: Geometry
    kernel_size: tuple[int, int]
    quantizer: InputQuantizer

    def __call__(self, x: Tensor) -> Tensor:
        """Unfold x [B, C, H, W], or [C, H, W], to [B, places, groups, C / groups * kh * kw].

        A row holds what one place of the output sees, in the order of the weight's last three dimensions.
        """
        g = self.geometry
        x = self.quantizer(x)
        padded = F.pad(x if x.ndim == 4 else x[None], border(self.kernel_size, g), mode=g.pad_mode)
        columns: Tensor = F.unfold(padded, self.kernel_size, g.dilation, 0, g.stride)  # [B, C * kh * kw, places]
        rows: Tensor = columns.mT.unflatten(-1, (g.groups, -1))
        return rows
