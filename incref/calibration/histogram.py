"""Counts values in bins, so that the counts don't depend on how the values were cut into batches."""

import math

import torch
from torch import Tensor

__all__ = ["BINS", "Histogram"]

BINS = 2048
"""On either side of zero. The largest magnitude lies in the outer half of those on its side."""


class Histogram:
    """Counts values in bins of equal width `2**exponent / BINS`, from `-2**exponent` to `2**exponent`.

    The exponent is the least for which all magnitudes are below the ends; when it has to grow, neighbours are joined.
    As the width is a power of two, the bin of a value is exact, and the same as if the exponent had been right at once.

    Attributes:
        counts: int64 [2 * BINS]; bin `i` holds `(i - BINS) * width <= x < (i + 1 - BINS) * width`.
        exponent: of the ends; None until there was a value other than zero.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.counts = torch.zeros(2 * BINS, dtype=torch.int64)
        self.exponent: int | None = None

    @property
    def width(self) -> float:
        """Of a bin; any positive number would do for zeros alone."""
        return math.ldexp(1.0, 0 if self.exponent is None else self.exponent) / BINS

    @property
    def middles(self) -> Tensor:
        """Of the bins, float64 [2 * BINS]."""
        return (torch.arange(2 * BINS, dtype=torch.float64) - BINS + 0.5) * self.width

    def add(self, x: Tensor) -> None:
        """Count the values of x, finite, any shape, as float32 has them."""
        values = x.detach().to(torch.float32).flatten()
        if values.numel() == 0:
            return
        self._reach(float(values.abs().max()))
        # The quotient by a power of two is exact in float64, whatever the powers.
        index = torch.floor(values.to(torch.float64) / self.width).to(torch.int64) + BINS
        self.counts += torch.bincount(index, minlength=2 * BINS).cpu()

    def _reach(self, amax: float) -> None:
        """Let the ends be beyond `amax`."""
        needed = math.frexp(amax)[1]
        if amax == 0 or (self.exponent is not None and self.exponent >= needed):
            return
        if self.exponent is not None:
            # After so many joints all that was counted is in the two bins beside zero, and stays there.
            for _ in range(min(needed - self.exponent, BINS.bit_length())):
                self._join()
        self.exponent = needed

    def _join(self) -> None:
        joined = torch.zeros_like(self.counts)
        joined[BINS // 2 : BINS // 2 + BINS] = self.counts.view(BINS, 2).sum(1)
        self.counts = joined
