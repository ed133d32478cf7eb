"""A kernel that others wrote, and what it should compute."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Case", "Function", "draw"]

Function = Callable[..., Any]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw normal numbers, the same ones each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Case:
    """One kernel, or a few that are launched together.

    Attributes:
        launch: calls the package; a tensor or several.
        reference: computes the same in PyTorch, in the type of the tensors that it is given.
        tensors: what both are given.
        has_gradient: whether both have a gradient.
    """

    launch: Function
    reference: Function
    tensors: list[Tensor]
    has_gradient: bool = True
