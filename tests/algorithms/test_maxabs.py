"""Judged in Python's fractions."""

import math
from fractions import Fraction

import pytest
import torch

from incref.algorithms.maxabs import amax_of, scale_of, search_scale
from incref.config.fp8_methods import TARGETS
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.formats import FORMATS, FloatFormat, ScaleArithmetic
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_channel
from incref.qtensor.parts import fake_quantize
from incref.qtensor.spec import QuantSpec

E4M3 = FORMATS["float8_e4m3fn"]
assert isinstance(E4M3, FloatFormat)


def amaxes() -> torch.Tensor:
    """Magnitudes of every binade, on and beside powers of two and what 448 and its fractions make of them."""
    bits = torch.arange(5, 0x7F800000, 0x200007, dtype=torch.int32)
    powers = torch.arange(1, 255, dtype=torch.int32) << 23
    seven = powers | 0x600000
    near = torch.cat([p + d for p in (powers, seven) for d in (-1, 0, 1)])
    subnormal = torch.tensor([1, 2, 3, 0x7FFFFF], dtype=torch.int32)
    return torch.cat([bits, near, subnormal]).view(torch.float32)


def least_scale(amax: float, backoff: float) -> Fraction:
    """`amax / (qmax * backoff)` rounded to float32, at least its smallest normal value."""
    exact = Fraction(amax) / (Fraction(448) * Fraction(backoff))
    rounded = Fraction(torch.tensor(float(exact), dtype=torch.float64).to(torch.float32).item())
    return max(rounded, Fraction(2) ** -126)


@pytest.mark.parametrize("backoff", [1.0, 0.5, 0.25])
def test_power_of_two(backoff: float) -> None:
    amax = amaxes()
    got = scale_of(amax, E4M3, MaxAbsScale(value=ScaleValue.POWER_OF_TWO, backoff=backoff))
    for value, scale in zip(amax.tolist(), got.tolist(), strict=True):
        mantissa, exponent = math.frexp(scale)
        assert mantissa == 0.5
        want = least_scale(value, backoff)
        assert want <= Fraction(scale) < 2 * want, (value.hex(), exponent)


@pytest.mark.parametrize("target", ["gaudi2", "gaudi3"])
def test_listed(target: str) -> None:
    choices = TARGETS[target].aligned
    amax = amaxes()
    got = scale_of(amax, E4M3, MaxAbsScale(value=ScaleValue.LISTED, backoff=0.25, choices=choices))
    for value, scale in zip(amax.tolist(), got.tolist(), strict=True):
        enough = [choice for choice in choices if Fraction(choice) >= least_scale(value, 0.25)]
        assert scale == (enough[0] if enough else choices[-1])


def test_any() -> None:
    amax = amaxes()
    got = scale_of(amax, E4M3, MaxAbsScale(value=ScaleValue.ANY, backoff=0.5))
    assert all(
        Fraction(scale) == least_scale(value, 0.5) for value, scale in zip(amax.tolist(), got.tolist(), strict=True)
    )


@pytest.mark.parametrize("value", [ScaleValue.ANY, ScaleValue.POWER_OF_TWO, ScaleValue.LISTED])
def test_zeros_and_what_is_not_finite(value: ScaleValue) -> None:
    choices = TARGETS["gaudi2"].aligned if value is ScaleValue.LISTED else ()
    method = MaxAbsScale(value=value, choices=choices)
    got = scale_of(torch.tensor([0.0, torch.inf, torch.nan]), E4M3, method)
    assert got[0] == 1
    assert bool(got[1:].isnan().all())


def test_one_and_fixed() -> None:
    amax = torch.tensor([0.0, 1e30, torch.inf])
    assert scale_of(amax, E4M3, MaxAbsScale(value=ScaleValue.ONE)).tolist() == [1, 1, 1]
    assert scale_of(amax, E4M3, MaxAbsScale(value=ScaleValue.FIXED, choices=(16.0,))).tolist() == [16, 16, 16]


@pytest.mark.parametrize("granularity", [PER_TENSOR, per_channel(), PER_TOKEN, per_channel(0, ndim=4)])
def test_amax(granularity: object) -> None:
    x = torch.randn(3, 4, 2, 5) if granularity == per_channel(0, ndim=4) else torch.randn(3, 40)
    spec = QuantSpec(fmt=E4M3, granularity=granularity)  # type: ignore[arg-type]  # one of the four
    got = amax_of(x.to(torch.bfloat16), spec)
    assert got.dtype is torch.float32
    want = x.to(torch.bfloat16).abs()
    assert torch.equal(got.flatten(), want.flatten(1).amax(1).float() if got.ndim else want.amax().float().view(1))


@pytest.mark.parametrize(
    ("value", "granularity", "choices"),
    [
        (ScaleValue.BEST_LISTED, PER_TENSOR, tuple(2.0**k for k in range(-10, 10))),
        (ScaleValue.BEST_LISTED, PER_TENSOR, TARGETS["gaudi2"].aligned),
        (ScaleValue.BEST_MULTIPLE, per_channel(), tuple(2.0**k for k in range(-3, 5))),
    ],
)
def test_the_search_takes_the_least_error(value: ScaleValue, granularity: object, choices: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 200, generator=generator) * torch.logspace(-4, 1, 6)[:, None]
    x[2] = 0
    spec = QuantSpec(fmt=E4M3, granularity=granularity, arithmetic=ScaleArithmetic.RECIPROCAL)  # type: ignore[arg-type]  # as above
    got = search_scale(x, spec, MaxAbsScale(value=value, backoff=0.5, choices=choices))
    start = torch.ones(())
    if value is ScaleValue.BEST_MULTIPLE:
        start = scale_of(amax_of(x, spec), E4M3, MaxAbsScale(value=ScaleValue.POWER_OF_TWO, backoff=0.5))
    errors = torch.stack(
        [
            (fake_quantize(x.double(), spec, (start * choice).expand(got.shape)) - x.double()).square().sum(1)
            for choice in choices
        ]
    )
    errors = errors if got.ndim else errors.sum(1, keepdim=True)
    best = errors.argmin(0)
    assert torch.equal(got.flatten(), (start * torch.tensor(choices)[best][:, None]).flatten()[: got.numel()])
