"""The largest magnitude that layers are fed."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from incref.numerics.amax import reduce_amax

__all__ = ["AmaxCollector"]


class AmaxCollector:
    """Keeps the largest magnitude of the input of every layer, over all calls while it is attached.

    Attributes:
        names: of the layers.
        amax: by name of the layer, float32 []; NaN once there was one. Layers that were never called are missing.
    """

    def __init__(self, names: list[str]) -> None:
        """Collect for the layers called `names` of the models that this is attached to."""
        self.names = names
        self.amax: dict[str, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def attach(self, layers: Mapping[str, nn.Module]) -> None:
        """Hook into `layers`, by name."""
        for name in self.names:
            self._handles.append(layers[name].register_forward_pre_hook(self._hook(name)))

    def detach(self) -> None:
        """Stop to collect."""
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        @torch.no_grad()
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            x = args[0].detach()
            if x.numel() == 0:
                return
            # As integers, so that NaN beats all.
            found = reduce_amax(x.to(torch.float32), tuple(max(1, size) for size in x.shape)).reshape(())
            known = self.amax.get(name)
            if known is not None:
                found = torch.maximum(found, known.view(torch.int32))
            self.amax[name] = found.view(torch.float32)

        return hook
