"""The Hessian of the squared error of a linear layer's output."""

import math
from collections.abc import Iterator
from threading import Lock

import torch
from torch import Tensor

__all__ = ["MOST_RUNS", "Hessian"]

_RUN = 2048
_STEP = 8
_BITS = 46
_FRACTION_BITS = 52
_PIECE = 1 << 16
_PANEL = 1024
_EDGE = 128
# So many rows stay in a cache.
_ROWS = 64

MOST_RUNS = 1 << (62 - _BITS)
"""How many runs of rows can be summed without leaving int64."""


class Hessian:
    """Sums up `x.T @ x` over everything that a layer is fed.

    The rows of every call are cut into runs of at most 2048. What one run gives is rounded to integers, and those are
    added without any rounding. So the sum has the same bits in whatever order calls come, and however many processes
    share them. Several threads may add at the same time.

    Attributes:
        groups: how many matrices of their own; 1 but for convolutions with groups.
        tokens: how many rows were summed.
        runs: in how many runs.
        sums: int64 [groups, K, K], in units of `2**key`; only what is on and above the diagonal counts.
        is_finite: whether all that was summed is.
    """

    def __init__(self, in_features: int, device: torch.device, groups: int = 1) -> None:
        """Start with nothing."""
        self.groups = groups
        self.tokens = self.runs = 0
        self.sums: dict[int, Tensor] = {}
        self.is_finite = True
        self.shape = (groups, in_features, in_features)
        self.device = device
        self._lock = Lock()
        self._blocks = [(one, other, Lock()) for one, other in _blocks(in_features)]

    def add(self, x: Tensor) -> None:
        """Add what one call was fed: x, any float dtype [..., K], or [..., groups, K].

        The products of a run are summed in float32. That is rounded to the nearest multiple of `2**unit`, where `unit`
        is the least multiple of 8 for which twice the largest sum of squares of a column is below `2**(unit + 46)`.
        Only what is on and above the diagonal is summed, in blocks, and nothing else of that size takes memory.

        Raises:
            ValueError: if there were 65,536 runs already.
        """
        rows = x.detach().reshape(-1, *self.shape[:2]).transpose(0, 1)  # [groups, tokens, K]
        if rows.shape[1] == 0:
            return
        with self._lock:
            self.tokens += rows.shape[1]
            self.runs += -(-rows.shape[1] // _RUN)
        self.require_few_runs()
        for run in rows.split(_RUN, dim=1):
            self._add_run(run.to(torch.float32))

    def merge(self, other: "Hessian") -> None:
        """Add what another one has summed."""
        self.tokens += other.tokens
        self.runs += other.runs
        self.require_few_runs()
        self.is_finite &= other.is_finite
        for unit, summed in other.sums.items():
            if unit in self.sums:
                self.sums[unit] += summed
            else:
                self.sums[unit] = summed.clone()

    @property
    def total(self) -> Tensor:
        """The sum, float64 [K, K], or [groups, K, K] if there are several; NaN if something was not finite."""
        other = Hessian(self.shape[1], self.device, self.groups)
        other.merge(self)
        return other.take_total()

    def take_total(self) -> Tensor:
        """Give `total`, in the memory of the sums: there are none after that."""
        total: Tensor | None = None
        for unit in sorted(self.sums):
            summed = self.sums.pop(unit)
            if total is None:
                total = summed.view(torch.float64)
                for values, sums in _pieces(total, summed):
                    values.copy_(sums.to(torch.float64).mul_(2.0**unit))
            else:
                for values, sums in _pieces(total, summed):
                    values.add_(sums.to(torch.float64).mul_(2.0**unit))
        if total is None:
            total = torch.zeros(self.shape, dtype=torch.float64, device=self.device)
        for start in range(0, self.shape[1], _EDGE):
            stop = start + _EDGE
            total[:, stop:, start:stop] = total[:, start:stop, stop:].mT
        if not self.is_finite:
            total.fill_(torch.nan)
        return total if self.groups > 1 else total[0]

    def require_few_runs(self) -> None:
        """Check that the sums are exact.

        Raises:
            ValueError: if there were more than 65,536 runs.
        """
        if self.runs > MOST_RUNS:
            raise ValueError(
                f"a layer can be calibrated with at most {MOST_RUNS} runs of up to {_RUN} tokens; make larger batches"
            )

    def _add_run(self, rows: Tensor) -> None:
        # No element of a Gram matrix is larger than all of its diagonal, up to the rounding of sums.
        squares = sum(part.square().sum(dim=1, dtype=torch.float64) for part in rows.split(_ROWS, dim=1))
        assert isinstance(squares, Tensor)
        largest = float(squares.amax())
        if not largest < torch.finfo(torch.float32).max / 2:
            self.is_finite = False
        elif largest > 0:
            self._add_products(rows, _STEP * math.ceil((math.frexp(largest)[1] + 1 - _BITS) / _STEP))

    def _add_products(self, rows: Tensor, unit: int) -> None:
        with self._lock:
            if unit not in self.sums:
                self.sums[unit] = torch.zeros(self.shape, dtype=torch.int64, device=self.device)
            total = self.sums[unit]
        # What is less than 2**(unit + 46) is rounded to integers by adding this, and these are then the last bits.
        large = torch.tensor(1.5 * 2.0 ** (unit + _FRACTION_BITS), dtype=torch.float64)
        pattern = int(large.view(torch.int64))
        for one, other, lock in self._blocks:
            product = rows[..., one].mT @ rows[..., other]
            with lock:
                for values, sums in _pieces(product, total[:, one, other]):
                    sums.add_(values.to(torch.float64).add_(float(large)).view(torch.int64).sub_(pattern))


def _blocks(size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks of a square: all that is on and above the diagonal, and little more."""
    for start in range(0, size, _PANEL):
        stop = min(start + _PANEL, size)
        for low in range(start, stop, _EDGE):
            yield slice(low, min(low + _EDGE, stop)), slice(low, stop)
        for other in range(stop, size, _PANEL):
            yield slice(start, stop), slice(other, min(other + _PANEL, size))


def _pieces(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of two tensors [groups, rows, columns] that stay in a cache."""
    size = max(1, _PIECE // (a.shape[0] * a.shape[2]))
    return zip(a.split(size, dim=1), b.split(size, dim=1), strict=True)
