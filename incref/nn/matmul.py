"""`Matmul`: a product of two activations as a module."""

import torch
from torch import Tensor

from incref.nn.inputs_only import InputsOnly

__all__ = ["Matmul"]


class Matmul(InputsOnly):
    """Compute `torch.matmul(x, y)` for x [..., M, K] and y [..., K, N], batched or not.

    A model that calls one of these in place of `torch.matmul` or `torch.bmm` lets a configuration say how the factors
    are quantized.

    >>> Matmul()(torch.ones(2, 3), torch.ones(3, 1))
    tensor([[3.],
            [3.]])
    """

    arguments = ("x", "y")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply."""
        return torch.matmul(x, y)
