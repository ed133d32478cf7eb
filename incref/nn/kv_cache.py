"""`KVCache`: the keys, or the values, that attention has seen so far."""

import torch
from torch import Tensor

from incref.nn.inputs_only import InputsOnly

__all__ = ["KVCache"]


class KVCache(InputsOnly):
    """Keeps keys or values [..., L, D], and adds to them along the tokens L.

    One holds the keys of a layer, another its values. What is kept is no part of a state dict.

    Attributes:
        kept: all of them, or None.

    >>> cache = KVCache()
    >>> cache(torch.ones(1, 2, 3, 4)).shape, cache(torch.ones(1, 2, 1, 4)).shape
    (torch.Size([1, 2, 3, 4]), torch.Size([1, 2, 4, 4]))
    """

    arguments = ("x",)

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Keep x [..., L, D] after what is kept already, and give all of it."""
        self.kept = x if self.kept is None else torch.cat([self.kept, x], dim=-2)
        return self.kept

    def reset(self) -> None:
        """Forget everything."""
        self.kept = None
