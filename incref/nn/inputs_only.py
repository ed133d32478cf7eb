"""`InputsOnly`: a module without weights."""

from typing import ClassVar

from torch import nn

__all__ = ["InputsOnly"]


class InputsOnly(nn.Module):
    """A module without weights whose inputs can be quantized.

    Attributes:
        arguments: names of its inputs, the positional arguments of `forward`.
    """

    arguments: ClassVar[tuple[str, ...]]
