"""The searches for a range, against what they are defined as, value by value."""

import math

import pytest
import torch
from torch import Tensor

from incref.calibration.histogram import BINS, Histogram
from incref.calibration.thresholds import find_threshold, scale_of_range
from incref.config.range_rule import RangeMethod, RangeRule
from incref.formats import FORMATS, SymmetricScale
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.quantize_affine import quantize_affine
from incref.qtensor.spec import QuantSpec

AFFINE = QuantSpec(fmt=FORMATS["uint8"], symmetric=False)
SYMMETRIC = QuantSpec(fmt=FORMATS["int8"], symmetric_scale=SymmetricScale.SPAN)
SPECS = [AFFINE, SYMMETRIC, QuantSpec(fmt=FORMATS["int4"]), QuantSpec(fmt=FORMATS["int8"], symmetric=False)]


def long_tailed(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5000, generator=generator)
    x[:3] = torch.tensor([17.0, -9.0, 12.0])
    return {"two-sided": x, "positive": x.abs(), "negative": -x.abs(), "gelu": torch.nn.functional.gelu(x)}[kind]


def observed(x: Tensor) -> tuple[Histogram, Tensor]:
    histogram = Histogram()
    histogram.add(x)
    return histogram, torch.stack(x.aminmax())


def ends_at(extremes: Tensor, threshold: float) -> Tensor:
    return extremes.clamp(-threshold, threshold)


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.99, 100.0])
@pytest.mark.parametrize("kind", ["two-sided", "positive", "negative"])
def test_percentile_keeps_so_many(kind: str, percentile: float) -> None:
    x = long_tailed(kind)
    histogram, extremes = observed(x)
    rule = RangeRule(method=RangeMethod.PERCENTILE, percentile=percentile)
    threshold = find_threshold(histogram, extremes, AFFINE, rule)

    def within(t: float) -> float:
        return float(((x >= -t) & (x < t)).double().mean()) * 100

    assert within(threshold) >= percentile > within(threshold - histogram.width)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("kind", ["two-sided", "gelu"])
def test_mse_is_the_least_squared_error_of_the_operations(kind: str, spec: QuantSpec) -> None:
    x = long_tailed(kind)
    histogram, extremes = observed(x)
    threshold = find_threshold(histogram, extremes, spec, RangeRule(method=RangeMethod.MSE))
    middles = torch.floor(x.double() / histogram.width) * histogram.width + histogram.width / 2

    def error(t: float) -> float:
        scale, zero_point = scale_of_range(ends_at(extremes, t), spec)
        codes, *_ = quantize_affine(middles.float(), spec.fmt, scale, zero_point)
        return float((dequantize_affine(codes, scale, zero_point).double() - middles).square().sum())

    tried = [error(n * histogram.width) for n in range(BINS, 8, -97)]
    # The search has its quotients in float64, the operations in float32: a code may differ by one at a tie.
    assert error(threshold) <= min(tried) * (1 + 1e-4)
    # Four bits are too few to reach the outliers.
    assert spec.fmt.name != "int4" or threshold < float(extremes.abs().max()) / 2


@pytest.mark.parametrize("spec", SPECS[:2], ids=str)
@pytest.mark.parametrize("kind", ["two-sided", "positive", "negative"])
def test_kl_is_the_least_divergence(kind: str, spec: QuantSpec) -> None:
    histogram, extremes = observed(long_tailed(kind))
    threshold = find_threshold(histogram, extremes, spec, RangeRule(method=RangeMethod.KL))
    tried = [divergence(histogram, extremes, n, spec) for n in range(BINS, 255, -97)]
    found = divergence(histogram, extremes, round(threshold / histogram.width), spec)
    assert math.isfinite(found)
    assert found <= min(tried)
    assert threshold < float(extremes.abs().max())


def divergence(histogram: Histogram, extremes: Tensor, bins: int, spec: QuantSpec) -> float:
    """The definition, bin by bin."""
    width = histogram.width
    low, high = (
        max(math.floor(float(extremes[0]) / width), -bins),
        min(math.floor(float(extremes[1]) / width), bins - 1),
    )
    if float(extremes[1]) <= 0:
        high = -1
    if float(extremes[0]) >= 0:
        low = 0
    counts = dict(enumerate(histogram.counts.tolist(), -BINS))
    p = {i: counts[i] for i in range(low, high + 1)}
    p[low] += sum(n for i, n in counts.items() if i < low)
    p[high] += sum(n for i, n in counts.items() if i > high)
    scale, zero_point = scale_of_range(ends_at(extremes, bins * width), spec)
    shared: dict[int, list[int]] = {}
    middles = (torch.arange(low, high + 1) + 0.5) * width
    for i, code in enumerate(quantize_affine(middles, spec.fmt, scale, zero_point)[0].tolist(), low):
        if counts[i]:
            shared.setdefault(code, []).append(i)
    q = {i: sum(counts[j] for j in group) / len(group) for group in shared.values() for i in group}
    p_sum, q_sum = sum(p.values()), sum(q.values())
    total = 0.0
    for i, n in p.items():
        if n and i not in q:
            return math.inf
        if n:
            total += n / p_sum * math.log((n / p_sum) / (q[i] / q_sum))
    return total


@pytest.mark.parametrize("method", [RangeMethod.PERCENTILE, RangeMethod.KL, RangeMethod.MSE])
def test_degenerate_values(method: RangeMethod) -> None:
    for x in (
        torch.zeros(5),
        torch.full((5,), 3.0),
        torch.full((5,), -3.0),
        torch.tensor([1e-45]),
        torch.tensor([3e38]),
    ):
        histogram, extremes = observed(x)
        threshold = find_threshold(histogram, extremes, AFFINE, RangeRule(method=method))
        assert threshold >= float(extremes.abs().max()) * (1 - 2 / BINS)
        scale, zero_point = scale_of_range(ends_at(extremes, threshold), AFFINE)
        assert bool(scale > 0)
        assert zero_point is not None
