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
        channels: likewise of every channel, float32 [C], of layers that have weights; empty if not asked for. Channels
            lie along the last dimension, or those of images [..., C, H, W].
    """

    def __init__(self, names: list[str], *, per_channel: bool = False) -> None:
        """Collect for the layers called `names` of the models that this is attached to, also for each channel."""
        self.names = names
        self.amax: dict[str, Tensor] = {}
        self.channels: dict[str, Tensor] = {}
        self._per_channel = per_channel
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def attach(self, layers: Mapping[str, nn.Module]) -> None:
        """Hook into `layers`, by name."""
        for name in self.names:
            layer = layers[name]
            self._handles.append(layer.register_forward_pre_hook(self._hook(input_keys(name, layer))))
            if self._per_channel and not isinstance(layer, InputsOnly):
                hook = self._channel_hook(name, -3 if isinstance(layer, nn.Conv2d) else -1)
                self._handles.append(layer.register_forward_pre_hook(hook))

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

    def _channel_hook(self, name: str, axis: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            x = args[0].detach()
            if x.numel():
                _raise_to(self.channels, name, _amax(x, [1 if d == axis % x.ndim else -1 for d in range(x.ndim)]))

        return hook

    @torch.no_grad()
    def _see(self, key: str, x: Tensor) -> None:
        if x.numel():
            _raise_to(self.amax, key, _amax(x, [-1] * x.ndim).reshape(()))


def _amax(x: Tensor, extents: list[int]) -> Tensor:
    """Largest magnitudes of blocks of `x`, -1 being a whole dimension, as integers, so that NaN beats all."""
    block = tuple(size if extent == -1 else extent for size, extent in zip(x.shape, extents, strict=True))
    return reduce_amax(x.to(torch.float32), block).flatten()


def _raise_to(known: dict[str, Tensor], key: str, found: Tensor) -> None:
    """Keep the larger of what is known and what was found."""
    if key in known:
        found = torch.maximum(found, known[key].view(torch.int32))
    known[key] = found.view(torch.float32)
