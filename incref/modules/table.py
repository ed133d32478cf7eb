"""Which layers can be quantized, and what they become."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from incref.config.conv1d import Conv1D
from incref.config.maxabs import MaxAbsScale
from incref.config.scheme import Elementwise
from incref.modules.conv import QuantConv2d
from incref.modules.layer import QuantLayer
from incref.modules.linear import QuantLinear
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["QUANTIZED", "quantized_layer"]


QUANTIZED: Mapping[type[nn.Module], type[QuantLayer]] = MappingProxyType(
    {nn.Linear: QuantLinear, nn.Conv2d: QuantConv2d, Conv1D: QuantLinear}
)
"""For a class of layers what it becomes."""


def quantized_layer(
    layer: nn.Module,
    qweight: QTensor,
    bias: Tensor | None,
    activation: QuantSpec | None,
    *,
    elementwise: Elementwise | None = None,
    scale_method: MaxAbsScale | None = None,
    input_scale: Tensor | None = None,
) -> QuantLayer:
    """Make what stands in for `layer`, in its mode; the arguments are those of `QuantLayer`."""
    made_by = next(made_by for cls, made_by in QUANTIZED.items() if isinstance(layer, cls))
    made = made_by(
        qweight,
        bias,
        activation,
        elementwise=elementwise,
        scale_method=scale_method,
        input_scale=input_scale,
    )
    made.take_over(layer)
    made.train(layer.training)
    return made
