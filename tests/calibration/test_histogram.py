"""Counts that don't depend on how values were cut into batches."""

import math

import pytest
import torch
from torch import Tensor

from incref.calibration.histogram import BINS, Histogram


def counted(*batches: Tensor) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def values() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4000, generator=generator) * torch.logspace(-6, 3, 4000)


def test_a_value_is_counted_in_its_bin() -> None:
    histogram = counted(torch.tensor([0.75, -0.75, 0.0, -0.0, 2.0**-12, -(2.0**-40)]))
    assert histogram.exponent == 0
    assert histogram.width == 1 / BINS
    assert {int(i) - BINS: int(histogram.counts[i]) for i in histogram.counts.nonzero()} == {
        BINS * 3 // 4: 1,
        -BINS * 3 // 4: 1,
        0: 3,
        -1: 1,
    }
    index = int(histogram.counts.argmax())
    assert histogram.middles[index] == 0.5 / BINS


@pytest.mark.parametrize("batches", [1, 7, 400])
def test_batches_and_their_order_make_no_difference(batches: int) -> None:
    x = values()
    want = counted(x)
    assert int(want.counts.sum()) == x.numel()
    for order in (x, x.flip(0)):
        got = counted(*order.chunk(batches))
        assert got.exponent == want.exponent
        assert torch.equal(got.counts, want.counts)


def test_the_range_fits_the_largest_magnitude() -> None:
    for amax in (1.0, math.nextafter(1.0, 0.0), 3.4e38, 1e-45, 2.0**-126):
        x = torch.tensor([amax, 0.0])
        histogram = counted(x)
        assert histogram.exponent is not None
        assert 2.0 ** (histogram.exponent - 1) <= float(x[0]) < 2.0**histogram.exponent
        assert int(histogram.counts[BINS:].nonzero()[-1]) >= BINS // 2


def test_growing_by_far() -> None:
    histogram = counted(torch.tensor([1e-40, -1e-40, 0.0]), torch.tensor([1e38]))
    assert histogram.counts.nonzero().flatten().tolist()[:2] == [BINS - 1, BINS]
    assert histogram.counts[BINS - 1 : BINS + 1].tolist() == [1, 2]


def test_zeros_and_nothing() -> None:
    histogram = counted(torch.zeros(3), torch.zeros(0))
    assert histogram.exponent is None
    assert histogram.counts[BINS] == 3
    histogram.add(torch.tensor([4.0], dtype=torch.bfloat16))
    assert (histogram.exponent, int(histogram.counts.sum())) == (3, 4)
