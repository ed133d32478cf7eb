"""Where the range of a tensor is clipped: the searches over a histogram that `RangeMethod` names."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.calibration.histogram import BINS, Histogram
from incref.config.range_rule import RangeMethod, RangeRule
from incref.formats import IntFormat
from incref.numerics.granularity import PER_TOKEN
from incref.ops.compute_scale import compute_scale
from incref.qtensor.spec import QuantSpec

__all__ = ["find_threshold", "scale_of_range"]

# Thresholds that are tried at once: so many times 4096 bins are 2 MB.
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class _Bins:
    """The bins between the extremes.

    Attributes:
        counts: float64 [bins].
        middles: float64 [bins].
        below: how many of them are below zero.
    """

    counts: Tensor
    middles: Tensor
    below: int

    def ends(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the last bin within so many on either side of zero."""
        above = len(self.counts) - self.below
        # Where no value is negative, the first bin is that above zero; likewise on the other side.
        first = (self.below - thresholds).clamp(min=0)
        last = (self.below + thresholds).clamp(max=self.below + above) - 1
        return first, last


def scale_of_range(ends: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor | None]:
    """Compute the scale, and zero point if `spec` has one, that `compute_scale` gives values from one end to the other.

    Args:
        ends: float32 [..., 2].
        spec: an integer format.

    Returns:
        float32 [...], and int32 [...] or None.
    """
    found = compute_scale(
        ends, spec.fmt, PER_TOKEN, rule=spec.rule, symmetric=spec.symmetric, symmetric_scale=spec.symmetric_scale
    )
    scale, zero_point = found if isinstance(found, tuple) else (found, None)
    return scale.squeeze(-1), None if zero_point is None else zero_point.squeeze(-1)


def find_threshold(histogram: Histogram, extremes: Tensor, spec: QuantSpec, rule: RangeRule) -> float:
    """Choose the threshold.

    Among equally good ones the greatest is chosen.

    Args:
        histogram: of all values.
        extremes: the least and the greatest of them, float32 [2], finite.
        spec: what values are quantized to: an integer format, one scale for all.
        rule: a method other than MINMAX.

    Returns:
        A multiple of the width of a bin.
    """
    assert isinstance(spec.fmt, IntFormat)
    if histogram.exponent is None:
        return histogram.width
    if rule.method is RangeMethod.PERCENTILE:
        return _percentile(histogram, rule.percentile)
    below, above = _used_bins(histogram, extremes)
    used = slice(BINS - below, BINS + above)
    bins = _Bins(counts=histogram.counts[used].to(torch.float64), middles=histogram.middles[used], below=below)
    thresholds = torch.arange(max(below, above), 0, -1)
    if rule.method is RangeMethod.KL:
        first, last = bins.ends(thresholds)
        is_wide = last - first + 1 >= spec.fmt.num_codes
        thresholds = thresholds[is_wide & _has_filled_ends(bins, thresholds)]
    loss_of = _divergences if rule.method is RangeMethod.KL else _squared_errors
    losses: list[Tensor] = []
    for chunk in thresholds.split(_CHUNK):
        limit = (chunk * histogram.width).to(torch.float32)[:, None]
        codes, scale = _codes(bins.middles, torch.minimum(torch.maximum(extremes, -limit), limit), spec)
        losses.append(loss_of(bins, chunk, codes, scale))
    return float(thresholds[torch.cat(losses).argmin()]) * histogram.width


def _percentile(histogram: Histogram, percentile: float) -> float:
    magnitudes = histogram.counts[BINS:] + histogram.counts[:BINS].flip(0)
    within = magnitudes.cumsum(0).to(torch.float64)
    enough = within >= within[-1] * (percentile / 100)
    return float(enough.to(torch.int64).argmax() + 1) * histogram.width


def _has_filled_ends(bins: _Bins, thresholds: Tensor) -> Tensor:
    """Whether KL is finite: a bin at an end holds something of its own, or is given nothing from outside."""
    first, last = bins.ends(thresholds)
    total = bins.counts.cumsum(0)
    has_below = total[first] - bins.counts[first] > 0
    has_above = total[-1] - total[last] > 0
    return (~has_below | (bins.counts[first] > 0)) & (~has_above | (bins.counts[last] > 0))


def _divergences(bins: _Bins, thresholds: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """KL of every threshold, float64."""
    del scale
    counts, position = bins.counts, torch.arange(len(bins.counts))
    first, last = (end[:, None] for end in bins.ends(thresholds))
    inside = torch.where((position >= first) & (position <= last), counts, 0.0)
    p = inside.clone()
    p.scatter_add_(1, first, torch.where(position < first, counts, 0.0).sum(1, keepdim=True))
    p.scatter_add_(1, last, torch.where(position > last, counts, 0.0).sum(1, keepdim=True))
    index = (codes - codes.amin(1, keepdim=True)).to(torch.int64)
    none = torch.zeros(len(thresholds), int(index.max()) + 1, dtype=torch.float64)
    shares = none.scatter_add(1, index, (inside > 0).to(torch.float64))
    sums = none.scatter_add(1, index, inside)
    q = torch.where(inside > 0, sums.gather(1, index) / shares.gather(1, index), 0.0)
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    return torch.where(p > 0, p * torch.log(p / q), 0.0).sum(1)


def _squared_errors(bins: _Bins, thresholds: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """The sum of squared errors for every threshold, float64."""
    del thresholds
    return (codes * scale - bins.middles).square() @ bins.counts


def _codes(middles: Tensor, ends: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Codes, less their zero point, of `middles`, float64 [thresholds, bins], and scales, float64 [thresholds, 1]."""
    assert isinstance(spec.fmt, IntFormat)
    scale, zero_point = scale_of_range(ends, spec)
    step = scale.to(torch.float64)[:, None]
    zero = torch.zeros_like(step) if zero_point is None else zero_point.to(torch.float64)[:, None]
    return torch.round(middles / step).clamp(spec.fmt.min_code - zero, spec.fmt.max_code - zero), step


def _used_bins(histogram: Histogram, extremes: Tensor) -> tuple[int, int]:
    """How many bins below and above zero reach to the extremes."""
    low, high = (float(end) / histogram.width for end in extremes)
    # The bin of a value includes its lower edge.
    return max(0, -math.floor(low)), max(0, math.floor(high) + 1)
