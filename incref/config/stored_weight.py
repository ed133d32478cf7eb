"""The weight of a layer as the tensor that is quantized."""

from torch import Tensor, nn

from incref.config.conv1d import Conv1D
from incref.config.method import GPTQ
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme

__all__ = ["stored_shapes", "stored_weight"]


def stored_weight(layer: Layer, scheme: LayerScheme) -> Tensor:
    """Give the weight of `layer` in the shape in which `scheme` quantizes it.

    That of a `Conv1D` is transposed to [N, K]. GPTQ quantizes a convolution as the matrix [N, C / groups * kh * kw]
    that it multiplies patches with.
    """
    if isinstance(layer, Conv1D):
        return layer.weight.T
    if isinstance(layer, nn.Conv2d) and isinstance(scheme.method, GPTQ):
        return layer.weight.flatten(1)
    return layer.weight


def stored_shapes(layer: Layer) -> list[tuple[int, ...]]:
    """The shapes in which the weight of `layer` can be stored."""
    if isinstance(layer, Conv1D):
        return [tuple(layer.weight.T.shape)]
    shapes = [tuple(layer.weight.shape)]
    return [*shapes, tuple(layer.weight.flatten(1).shape)] if isinstance(layer, nn.Conv2d) else shapes
