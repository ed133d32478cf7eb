"""The Hessian that a layer has, and what its input becomes before that is summed up."""

from torch import nn

from incref.calibration.collect import Transform
from incref.calibration.hessian import Hessian
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme
from incref.config.stored_weight import stored_weight
from incref.modules.geometry import Geometry
from incref.modules.input import InputQuantizer
from incref.modules.patches import Patches
from incref.workflow.layers import LayerReplacer

__all__ = ["groups_of", "input_transform", "nothing_summed"]


def input_transform(layer: Layer, scheme: LayerScheme) -> Transform | None:
    """What `layer` does to its input before it multiplies; None for nothing."""
    quantizer = InputQuantizer(elementwise=scheme.elementwise, activation=scheme.activation)
    if isinstance(layer, nn.Conv2d):
        kernel_size = (layer.kernel_size[0], layer.kernel_size[1])
        return Patches(geometry=Geometry.of(layer), kernel_size=kernel_size, quantizer=quantizer)
    return quantizer if scheme.activation is not None or scheme.elementwise is not None else None


def groups_of(layer: Layer) -> int:
    """How many Hessians `layer` has."""
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def nothing_summed(name: str, replacer: LayerReplacer) -> Hessian:
    """Start the Hessian of the layer called `name`."""
    layer = replacer.layer(name)
    weight = stored_weight(layer, replacer.left[name])
    return Hessian(weight.shape[1], replacer.device(name), groups_of(layer))
