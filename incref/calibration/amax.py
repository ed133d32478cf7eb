"""The largest magnitude that layers are fed."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from incref.nn.inputs_only import InputsOnly
from incref.numerics.amax import reduce_amax

__all__ = ["AmaxCollector", "input_keys"]


def input_keys(name: str, module: nn.Module) -> list[str]:
    """What the inputs of `module` are called: as the module, or by its name and theirs if it has no weights."""
    return [f"{name}.{argument}" for argument in module.arguments] if isinstance(module, InputsOnly) else [name]


class AmaxCollector:
    """Keeps the largest magnitude of every input of every layer, over all calls while it is attached.

    Attributes:
        names: of the layers.
        amax: by `input_keys`, float32 []; NaN once there was one. Layers that were never called are missing.
    """

    def __init__(self, names: list[str]) -> None:
        """Collect for the layers called `names` of the models that this is attached to."""
        self.names = names
        self.amax: dict[str, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def attach(self, layers: Mapping[str, nn.Module]) -> None:
        """Hook into `layers`, by name."""
        for name in self.names:
            keys = input_keys(name, layers[name])
            self._handles.append(layers[name].register_forward_pre_hook(self._hook(keys)))

    def detach(self) -> None:
        """Stop to collect."""
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, keys: list[str]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            for key, x in zip(keys, args, strict=False):
                self._see(key, x.detach())

        return hook

    @torch.no_grad()
    def _see(self, key: str, x: Tensor) -> None:
        if x.numel() == 0:
            return
        # As integers, so that NaN beats all.
        found = reduce_amax(x.to(torch.float32), tuple(max(1, size) for size in x.shape)).reshape(())
        known = self.amax.get(key)
        if known is not None:
            found = torch.maximum(found, known.view(torch.int32))
        self.amax[key] = found.view(torch.float32)
