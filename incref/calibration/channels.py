"""The extremes of every feature of what layers are fed."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["ChannelCollector"]


class ChannelCollector:
    """Keeps the least and the greatest value of each feature of the input of every layer.

    Attributes:
        extremes: by name of the layer, float32 [2, K]; NaN once there was one. Layers without calls are missing.
        handles: of the hooks that do it; to be removed.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        """Hook into `layers`, by name."""
        self.extremes: dict[str, Tensor] = {}
        self.handles = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in layers.items()]

    def _hook(self, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # the type that torch declares
        @torch.no_grad()
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            rows = args[0].detach().to(torch.float32).reshape(-1, args[0].shape[-1])
            if len(rows) == 0:
                return
            found = torch.stack(rows.aminmax(dim=0))
            known = self.extremes.get(name)
            if known is not None:
                found = torch.stack([torch.minimum(found[0], known[0]), torch.maximum(found[1], known[1])])
            self.extremes[name] = found

        return hook
