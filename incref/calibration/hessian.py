"""The Hessian of the squared error of a linear layer's output."""

import torch
from torch import Tensor

__all__ = ["Hessian"]

_CHUNK = 2048


class Hessian:
    """Sums up `x.T @ x` over everything that a layer is fed.

    Attributes:
        total: float64 [K, K].
        tokens: how many rows were summed.
    """

    def __init__(self, in_features: int, device: torch.device) -> None:
        """Start with nothing."""
        self.total = torch.zeros(in_features, in_features, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, x: Tensor) -> None:
        """Add x, any float dtype [..., K].

        Products of at most 2048 rows are summed in float32 and then added in float64.
        """
        rows = x.detach().reshape(-1, x.shape[-1])
        self.tokens += len(rows)
        for chunk in rows.split(_CHUNK):
            part = chunk.to(torch.float32)
            self.total += part.T @ part

    def merge(self, other: "Hessian") -> None:
        """Add what another one has summed."""
        self.total += other.total
        self.tokens += other.tokens
