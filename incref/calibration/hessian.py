"""The Hessian of the squared error of a linear layer's output."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["MOST_CALLS", "Hessian"]

_CHUNK = 2048
_STEP = 8
_BITS = 46
_PIECE = 1 << 15
_BLOCK = 512

MOST_CALLS = 1 << (62 - _BITS)
"""How many calls can be summed without leaving int64."""


class Hessian:
    """Sums up `x.T @ x` over everything that a layer is fed.

    What one call gives is rounded to integers, and those are added without any rounding. So the sum has the same bits
    in whatever order calls come, and however many processes share them.

    Attributes:
        groups: how many matrices of their own; 1 but for convolutions with groups.
        tokens: how many rows were summed.
        calls: in how many calls.
        sums: int64 [groups, K, K], in units of `2**key`; only what is on and above the diagonal counts.
        is_finite: whether all that was summed is.
    """

    def __init__(self, in_features: int, device: torch.device, groups: int = 1) -> None:
        """Start with nothing."""
        self.groups = groups
        self.tokens = self.calls = 0
        self.sums: dict[int, Tensor] = {}
        self.is_finite = True
        self.shape = (groups, in_features, in_features)
        self.device = device

    def add(self, x: Tensor) -> None:
        """Add what one call was fed: x, any float dtype [..., K], or [..., groups, K].

        Products of at most 2048 rows are summed in float32, and those of more in float64. That is rounded to the
        nearest multiple of `2**unit`, where `unit` is the least multiple of 8 for which twice the largest sum of
        squares of a column is below `2**(unit + 46)`. Only what is on and above the diagonal is summed, in blocks.

        Raises:
            ValueError: if there were 65,536 calls already.
        """
        rows = x.detach().reshape(-1, *self.shape[:2]).transpose(0, 1)  # [groups, tokens, K]
        if rows.shape[1] == 0:
            return
        chunks = [chunk.to(torch.float32) for chunk in rows.split(_CHUNK, dim=1)]
        self.tokens += rows.shape[1]
        self.calls += 1
        self.require_few_calls()
        # No element of a Gram matrix is larger than all of its diagonal, up to the rounding of sums.
        largest = float(sum(chunk.square().sum(dim=1, dtype=torch.float64) for chunk in chunks).amax())
        if not largest < torch.finfo(torch.float32).max / 2:
            self.is_finite = False
        elif largest > 0:
            self._add_products(chunks, _STEP * math.ceil((math.frexp(largest)[1] + 1 - _BITS) / _STEP))

    def merge(self, other: "Hessian") -> None:
        """Add what another one has summed."""
        self.tokens += other.tokens
        self.calls += other.calls
        self.require_few_calls()
        self.is_finite &= other.is_finite
        for unit, summed in other.sums.items():
            if unit in self.sums:
                self.sums[unit] += summed
            else:
                self.sums[unit] = summed.clone()

    @property
    def total(self) -> Tensor:
        """The sum, float64 [K, K], or [groups, K, K] if there are several; NaN if something was not finite."""
        total = torch.zeros(self.shape, dtype=torch.float64, device=self.device)
        for unit in sorted(self.sums):
            for values, sums in _pieces(total, self.sums[unit]):
                values.add_(sums.to(torch.float64).mul_(2.0**unit))
        for start in range(0, self.shape[1], _BLOCK):
            stop = start + _BLOCK
            total[:, stop:, start:stop] = total[:, start:stop, stop:].mT
        if not self.is_finite:
            total.fill_(torch.nan)
        return total if self.groups > 1 else total[0]

    def require_few_calls(self) -> None:
        """Check that the sums are exact.

        Raises:
            ValueError: if there were more than 65,536 calls.
        """
        if self.calls > MOST_CALLS:
            raise ValueError(f"a layer can be calibrated with at most {MOST_CALLS} calls; make larger batches")

    def _add_products(self, chunks: list[Tensor], unit: int) -> None:
        if unit not in self.sums:
            self.sums[unit] = torch.zeros(self.shape, dtype=torch.int64, device=self.device)
        scale = 2.0**-unit
        for start in range(0, self.shape[1], _BLOCK):
            stop = start + _BLOCK
            product = chunks[0][..., start:stop].mT @ chunks[0][..., start:]
            for chunk in chunks[1:]:
                product = product.to(torch.float64).add_(chunk[..., start:stop].mT @ chunk[..., start:])
            summed = self.sums[unit][:, start:stop, start:]
            for values, sums in _pieces(product, summed):
                sums.add_(values.to(torch.float64).mul_(scale).round_().to(torch.int64))


def _pieces(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of two tensors [groups, rows, columns] that stay in a cache."""
    size = max(1, _PIECE // (a.shape[0] * a.shape[2]))
    return zip(a.split(size, dim=1), b.split(size, dim=1), strict=True)
