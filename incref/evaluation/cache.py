"""Speed for memory, while a model is evaluated."""

from torch import nn

from incref.modules.layer import QuantLayer

__all__ = ["cache_weights"]


def cache_weights(model: nn.Module) -> None:
    """Let every quantized layer keep its dequantized weight from the first call on; the results stay the same."""
    for module in model.modules():
        if isinstance(module, QuantLayer):
            module.cache_weight = True
