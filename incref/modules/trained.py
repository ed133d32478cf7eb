"""Layers that train: a float weight that is quantized in every call."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional as F

from incref.algorithms.weight import quantize_weight
from incref.config.conv1d import Conv1D
from incref.config.method import GPTQ, Cast
from incref.config.scheme import LayerScheme
from incref.errors import UnsupportedError
from incref.modules.input import InputQuantizer, round_elementwise
from incref.modules.output import multiply_and_add
from incref.qtensor.straight_through import straight_through

__all__ = [
    "TRAINED",
    "TrainedConv1D",
    "TrainedConv2d",
    "TrainedLinear",
    "check_trainable",
    "make_float",
    "make_trained",
]


class TrainedLinear(nn.Linear):
    """Computes what `QuantLinear` will compute with the present weight; gradients go straight through.

    Products of integers are exact there, and sums of floats here.

    Attributes:
        scheme: what the layer becomes.
        float_class: what it was.
    """

    scheme: LayerScheme
    float_class: type[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """Quantize weight and input, and multiply."""
        x = _quantize_input(x, self.scheme)
        weight, bias = _quantize_weight(self.weight, self.scheme, x), _cast(self.bias, x)
        return multiply_and_add(
            lambda b: F.linear(x, weight, b), bias, spread=lambda b: b, elementwise=self.scheme.elementwise
        )


class TrainedConv1D(nn.Module):
    """Likewise for a `Conv1D` of transformers, whose weight [K, N] is the transpose of a linear layer's.

    Attributes:
        scheme: what the layer becomes.
        float_class: what it was.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    scheme: LayerScheme
    float_class: type[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """Quantize weight and input, and multiply."""
        x = _quantize_input(x, self.scheme)
        weight, bias = _quantize_weight(self.weight.T, self.scheme, x), _cast(self.bias, x)
        return multiply_and_add(
            lambda b: F.linear(x, weight, b), bias, spread=lambda b: b, elementwise=self.scheme.elementwise
        )


class TrainedConv2d(nn.Conv2d):
    """Computes what `QuantConv2d` will compute with the present weight; gradients go straight through.

    Products of integers are exact there, and sums of floats here.

    Attributes:
        scheme: what the layer becomes.
        float_class: what it was.
    """

    scheme: LayerScheme
    float_class: type[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        """Quantize weight and input, and convolve."""
        x = _quantize_input(x, self.scheme)
        weight, bias = _quantize_weight(self.weight, self.scheme, x), _cast(self.bias, x)
        return multiply_and_add(
            lambda b: self._conv_forward(x, weight, b),
            bias,
            spread=lambda b: b[:, None, None],
            elementwise=self.scheme.elementwise,
        )


TRAINED: Mapping[type[nn.Module], type[TrainedLinear] | type[TrainedConv1D] | type[TrainedConv2d]] = MappingProxyType(
    {nn.Linear: TrainedLinear, Conv1D: TrainedConv1D, nn.Conv2d: TrainedConv2d}
)
"""For a class of layers what it is while it trains."""


def check_trainable(name: str, layer: nn.Module, scheme: LayerScheme) -> None:
    """Check that `layer` can be quantized in every call.

    Raises:
        UnsupportedError: if its class has no trained counterpart, or `scheme` needs calibration data.
    """
    if not isinstance(layer, tuple(TRAINED)):
        known = ", ".join(cls.__name__ for cls in TRAINED)
        raise UnsupportedError(f"{name}: {known} can be fine-tuned, got {type(layer).__name__}; leave it alone")
    if isinstance(scheme.method, Cast):
        raise UnsupportedError(
            f"{name}: a layer that is cast has no float weight beside it; train it as it is, then cast"
        )
    if isinstance(scheme.method, GPTQ) or scheme.is_static:
        raise UnsupportedError(
            f"{name}: calibration data says nothing of weights that change; use rounding to nearest, and scales of "
            "inputs that are found in every call"
        )


def make_trained(layer: nn.Module, scheme: LayerScheme) -> None:
    """Make `layer` quantize in every call; module, parameters and their names stay the same."""
    cls = next(trained for kind, trained in TRAINED.items() if isinstance(layer, kind))
    layer.float_class = type(layer)  # type: ignore[assignment]  # an attribute of the class that it gets
    layer.scheme = scheme  # type: ignore[assignment]  # likewise
    # As torch.nn.utils.parametrize does it: whatever holds the module or its parameters keeps them.
    layer.__class__ = cls


def make_float(layer: nn.Module) -> None:
    """Undo `make_trained`, if it was done."""
    if not isinstance(layer, TrainedLinear | TrainedConv1D | TrainedConv2d):
        return
    cls = layer.float_class
    del layer.float_class, layer.scheme
    layer.__class__ = cls  # type: ignore[assignment]  # what it was


def _quantize_input(x: Tensor, scheme: LayerScheme) -> Tensor:
    quantizer = InputQuantizer(
        elementwise=scheme.elementwise, activation=scheme.activation, scale_method=scheme.input_scale
    )
    return quantizer(x)


def _quantize_weight(weight: Tensor, scheme: LayerScheme, x: Tensor) -> Tensor:
    """What `convert` makes of `weight`, in the dtype of `x`, with the gradient of `weight`."""
    values = weight.detach()
    if scheme.elementwise is not None:
        values = round_elementwise(values, scheme.elementwise)
    return straight_through(weight.to(x.dtype), quantize_weight(values, scheme).dequantize(x.dtype))


def _cast(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
