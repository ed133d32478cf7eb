"""Puts layers into a model in place of others."""

from torch import nn

from incref.modules.cast import CastLayer
from incref.modules.layer import QuantLayer

__all__ = ["Holders", "disable_fast_paths", "find_holders", "replace_layer"]

Holders = dict[nn.Module, list[tuple[nn.Module, str]]]
"""For every module of a model, the modules that hold it and what they call it."""


def find_holders(model: nn.Module) -> Holders:
    """Find what holds every module of `model`; one that is shared is held several times."""
    holders: Holders = {}
    for parent in model.modules():
        for name, child in parent._modules.items():  # noqa: SLF001  # named_children leaves out repetitions
            if child is not None:
                holders.setdefault(child, []).append((parent, name))
    return holders


def replace_layer(holders: Holders, layer: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `layer` is held, under all its names."""
    for parent, name in holders.pop(layer):
        setattr(parent, name, new)


def disable_fast_paths(model: nn.Module) -> None:
    """Make `nn.TransformerEncoder` and its layers call their linear layers where one of them was replaced.

    They have a path for inference that reads weights and never calls the layers, which would leave out what a layer
    does to its input.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and _is_quantized(module):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder) and any(_is_quantized(encoder) for encoder in module.layers):
            module.use_nested_tensor = False


def _is_quantized(module: nn.Module) -> bool:
    return any(isinstance(child, QuantLayer | CastLayer) for child in module.children())
