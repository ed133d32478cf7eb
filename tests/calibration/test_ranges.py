"""Ranges of what layers are fed."""

import pytest
import torch
from torch import nn

from incref.calibration.ranges import RangeCollector, RangeObserver
from incref.calibration.thresholds import scale_of_range
from incref.config.range_rule import RangeMethod, RangeRule
from incref.formats import FORMATS, SymmetricScale
from incref.ops.compute_scale import compute_scale
from incref.qtensor.spec import QuantSpec

AFFINE = QuantSpec(fmt=FORMATS["uint8"], symmetric=False)


def test_extremes_are_those_of_all_calls() -> None:
    observer = RangeObserver(RangeRule())
    for x in (torch.tensor([1.0, 2.0]), torch.zeros(0), torch.tensor([[-3.0]], dtype=torch.bfloat16)):
        observer.observe(x)
    assert observer.range(AFFINE).tolist() == [-3.0, 2.0]
    assert observer.range(AFFINE).dtype is torch.float32


@pytest.mark.parametrize("method", RangeMethod)
def test_what_has_no_range_is_an_error(method: RangeMethod) -> None:
    observer = RangeObserver(RangeRule(method=method))
    with pytest.raises(ValueError, match="a range needs calibration data, and there was none"):
        observer.range(AFFINE)
    for bad in (torch.nan, torch.inf):
        observer = RangeObserver(RangeRule(method=method))
        observer.observe(torch.tensor([1.0, bad]))
        observer.observe(torch.tensor([2.0]))
        with pytest.raises(ValueError, match="a range needs finite values, got extremes"):
            observer.range(AFFINE)


@pytest.mark.parametrize("method", [RangeMethod.PERCENTILE, RangeMethod.KL, RangeMethod.MSE])
def test_clipping_keeps_the_shorter_side(method: RangeMethod) -> None:
    x = torch.randn(10000, generator=torch.Generator().manual_seed(0)).clamp(min=-0.25)
    x[0] = 6.0
    observer = RangeObserver(RangeRule(method=method, percentile=99.9))
    for part in x.split(999):
        observer.observe(part)
    low, high = observer.range(QuantSpec(fmt=FORMATS["uint4"], symmetric=False)).tolist()
    assert low == -0.25
    assert 0.25 < high < 6


@pytest.mark.parametrize(
    "spec",
    [
        AFFINE,
        QuantSpec(fmt=FORMATS["int8"], symmetric=False),
        QuantSpec(fmt=FORMATS["int8"], symmetric_scale=SymmetricScale.SPAN),
    ],
    ids=str,
)
@pytest.mark.parametrize("ends", [(-3.0, 2.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)])
def test_a_range_has_the_scale_of_its_ends(spec: QuantSpec, ends: tuple[float, float]) -> None:
    x = torch.tensor(ends)
    found = compute_scale(x, spec.fmt, symmetric=spec.symmetric, symmetric_scale=spec.symmetric_scale)
    want = found if isinstance(found, tuple) else (found, None)
    got = scale_of_range(x, spec)
    assert got[0].shape == ()
    assert torch.equal(got[0], want[0])
    assert (got[1] is None) == (want[1] is None)
    assert got[1] is None or (want[1] is not None and torch.equal(got[1], want[1]))


def test_the_scale_is_that_of_a_publication() -> None:
    """Neural Compressor and PyTorch: (hi - lo) / 255 and round(-lo / s); 127.5 for symmetric ones."""
    scale, zero_point = scale_of_range(torch.tensor([-1.0, 1.55]), AFFINE)
    assert zero_point is not None
    assert (scale.item(), zero_point.item()) == (pytest.approx(0.01), 100)
    scale, zero_point = scale_of_range(
        torch.tensor([-1.0, 2.55]), QuantSpec(fmt=FORMATS["int8"], symmetric_scale=SymmetricScale.SPAN)
    )
    assert (scale.item(), zero_point) == (pytest.approx(0.02), None)


def test_collects_while_attached() -> None:
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    collector = RangeCollector({"a": RangeRule(), "b": RangeRule(method=RangeMethod.KL)})
    collector.attach({"a": layer, "b": other})
    layer(torch.tensor([[1.0, -4.0]]))
    collector.detach()
    layer(torch.tensor([[100.0, -4.0]]))
    assert list(collector.observers) == ["a"]
    assert collector.observers["a"].range(AFFINE).tolist() == [-4.0, 1.0]
