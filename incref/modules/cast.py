"""Layers that compute in another dtype than the model around them."""

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["CAST", "CastConv1d", "CastConv2d", "CastConv3d", "CastLayer", "CastLinear", "cast_layer"]


class CastLayer(nn.Module):
    """What all of them have in common: x is cast to the dtype of the weight, and the result to the dtype of x.

    Casting the module to another float dtype leaves it alone.
    """

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to x, and give the result in the dtype of x."""
        y: Tensor = super().forward(x.to(self.weight.dtype))
        return y.to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module, but keep its dtype."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype is tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call, no-any-return]  # untyped in torch


class CastLinear(CastLayer, nn.Linear):
    """A linear layer in a dtype of its own."""


class CastConv1d(CastLayer, nn.Conv1d):
    """A convolution over one dimension in a dtype of its own."""


class CastConv2d(CastLayer, nn.Conv2d):
    """A convolution over two dimensions in a dtype of its own."""


class CastConv3d(CastLayer, nn.Conv3d):
    """A convolution over three dimensions in a dtype of its own."""


CAST: Mapping[type[nn.Module], type[CastLayer]] = MappingProxyType(
    {nn.Linear: CastLinear, nn.Conv1d: CastConv1d, nn.Conv2d: CastConv2d, nn.Conv3d: CastConv3d}
)
"""For a class of layers what it becomes when it is cast."""


def cast_layer(layer: nn.Module, dtype: torch.dtype) -> CastLayer:
    """Make a copy of `layer` that computes in `dtype`: its parameters are rounded to nearest, ties to even.

    Raises:
        ValueError: if a parameter is beyond the range of `dtype`.
    """
    made_by = next(made_by for cls, made_by in CAST.items() if isinstance(layer, cls))
    made = made_by.__new__(made_by)
    vars(made).update(vars(copy.copy(layer)))
    made._parameters = {}  # noqa: SLF001  # what a copy would share
    for name, parameter in layer._parameters.items():  # noqa: SLF001  # those that are None too
        made.register_parameter(name, None if parameter is None else _rounded(name, parameter, dtype))
    return made


def _rounded(name: str, parameter: Tensor, dtype: torch.dtype) -> nn.Parameter:
    rounded = parameter.detach().to(dtype)
    if not rounded.is_meta and not bool(rounded.isfinite().all()):
        raise ValueError(
            f"its {name} has magnitudes up to {float(parameter.detach().abs().max()):.6g}, and {dtype} ends at "
            f"{torch.finfo(dtype).max:.6g}; leave the layer alone, or take bfloat16"
        )
    return nn.Parameter(rounded, requires_grad=parameter.requires_grad)
