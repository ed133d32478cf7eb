"""Bounds hold for every right accumulator, and what they allow is what can happen."""

from dataclasses import replace

import pytest
import torch

from conformance.accumulators.replay import DISTRIBUTIONS, draw
from incref.backends.declared import AnyGroups, AnyOf, AnyOrder, Declared, in_any_order
from incref.conformance.bounds import error_bound
from incref.conformance.probes import gemm_probes
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import (
    Accumulator,
    Aligned,
    AlignTo,
    Carry,
    Pairwise,
    Promoted,
    Reordered,
    Sequential,
    SplitK,
)
from incref.numerics.exact_matmul import exact_matmul


def float_format(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


E4M3, E5M2, FP16, BF16, FP32 = map(float_format, ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32"))
NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)
WIDE = Aligned(group=16, fraction_bits=25, result_bits=23)
MODELS: list[Accumulator] = [
    Sequential(),
    Sequential(is_fused=True),
    Pairwise(),
    SplitK(inner=Pairwise(), parts=4),
    NARROW,
    WIDE,
    replace(WIDE, carry=Carry.ADDED),
    replace(WIDE, carry=Carry.REALIGNED, carry_bits=31, fraction_bits=24, result_rounding=Rounding.NEAREST_EVEN),
    replace(WIDE, carry=Carry.UNROUNDED, result_rounding=Rounding.NEAREST_EVEN, flushes=True),
    replace(NARROW, align_to=AlignTo.PRODUCTS, flushes=True),
    replace(NARROW, term_rounding=Rounding.NEAREST_EVEN, result_rounding=Rounding.NEAREST_EVEN),
    replace(NARROW, term_rounding=Rounding.TOWARD_NEGATIVE, result_rounding=Rounding.TOWARD_NEGATIVE),
    Promoted(inner=NARROW, every=128),
    Reordered(inner=NARROW, order=tuple(k for first in (0, 1) for k in range(first, 64, 2))),
    SplitK(inner=NARROW, parts=3, tile=64),
]


def looser(model: Accumulator) -> list[Declared]:
    """What may be declared of a model by someone who knows less."""
    if isinstance(model, Reordered) or getattr(model, "carry", None) is Carry.REALIGNED:
        with pytest.raises(ValueError, match="AnyGroups holds for consecutive groups"):
            in_any_order(model)
        return []
    found = in_any_order(model)
    return [found, AnyOf(models=(Sequential(), found))]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_no_right_sum_is_beyond_its_bound(model: Accumulator) -> None:
    for fmt in (E4M3, E5M2, FP16, BF16):
        for kind in DISTRIBUTIONS:
            for length in (1, 7, 128, 513):
                a, b = draw(kind, 12, length, fmt, length), draw(kind, 9, length, fmt, length + 1)
                error = (accumulate(a, b, fmt, fmt, model).double() - exact_matmul(a.double(), b.double())).abs()
                for declared in (model, *looser(model)):
                    bound = error_bound(a, b, fmt, fmt, declared)
                    # An exact sum of more bits than float64 has stands for its neighbours too.
                    slack = 2.0**-27 * exact_matmul(a.double(), b.double()).abs()
                    assert (error <= bound + slack).all(), (fmt.name, kind, length, declared)


def test_bounds_are_reached() -> None:
    # Every term but the first loses almost a whole unit.
    a = torch.full((1, 32), 2.0**-14 * 1.75)
    a[0, 0] = 1.0
    one = torch.ones_like(a)
    error = exact_matmul(a.double(), one.double()) - accumulate(a, one, BF16, BF16, NARROW)
    assert 0.84 < (error / error_bound(a, one, BF16, BF16, NARROW)).item() <= 1
    # So do sums one by one, each just short of half a unit.
    a = torch.full((1, 200), 2.0**-24)
    a[0, 0] = 1.0
    one = torch.ones_like(a)
    error = exact_matmul(a.double(), one.double()) - accumulate(a, one, BF16, BF16, Sequential(is_fused=True))
    bound = error_bound(a, one, BF16, BF16, AnyOrder())
    assert (error / bound).item() == pytest.approx(1, rel=2.0**-16)


@pytest.mark.parametrize(
    "declared", [AnyOrder(), *MODELS[:4], NARROW, AnyGroups(group=32, fraction_bits=13, result_bits=13)], ids=str
)
def test_probes_leave_no_room(declared: Declared) -> None:
    for probe in gemm_probes(4, 5, 200, bits=12, edges=(32, 64)):
        x, w = probe.x.nan_to_num(0.0), probe.w.nan_to_num(0.0)
        assert (error_bound(x, w, BF16, BF16, declared) == 0).all(), probe.name


def test_golden_bounds() -> None:
    def bound(declared: Declared, *products: float, fmt: FloatFormat = FP32) -> float:
        a = torch.tensor([products])
        return error_bound(a, torch.ones_like(a), fmt, fmt, declared).item()

    close = pytest.approx
    # (n - 1) u S, and n of them with products that are rounded.
    assert bound(AnyOrder(), 1.0, 2.0**-30, -1.0) == close(2 * 2.0**-24 * (2 + 2.0**-30), rel=1e-9)
    assert bound(AnyOrder(rounds_products=True), 1.0, 2.0**-30, -1.0) == close(3 * 2.0**-24 * (2 + 2.0**-30), rel=1e-9)
    # ((1 + 2u)**2 - 1) S toward zero.
    toward_zero = AnyOrder(rounding=Rounding.TOWARD_ZERO)
    assert bound(toward_zero, 1.0, 2.0**-30, -1.0) == close((2 * 2.0**-23 + 2.0**-46) * (2 + 2.0**-30), rel=1e-9)
    # One term off the grid of 2**(0 - 13), and a sum below 2 that is not: 2**-13 each.
    assert bound(NARROW, 1.0, 2.0**-14) == close(2 * 2.0**-13, rel=1e-9)
    assert bound(NARROW, 1.0, 2.0**-13) == 0
    assert bound(NARROW, 1.0, 1.0, 2.0**-13) == close(2.0**-12, rel=1e-9)


def test_zeros_do_not_count() -> None:
    a = torch.zeros(1, 500)
    a[0, :3] = torch.tensor([1.0, 2.0**-30, -1.0])
    wide = error_bound(a, torch.ones_like(a), FP32, FP32, AnyOrder())
    narrow = error_bound(a[:, :3], torch.ones(1, 3), FP32, FP32, AnyOrder())
    assert wide.item() == pytest.approx(narrow.item(), rel=1e-9)


def test_subnormal_results_may_be_flushed() -> None:
    a, b = torch.tensor([[2.0**-70, 2.0**-71]]), torch.tensor([[2.0**-70, -(2.0**-71)]])
    assert error_bound(a, b, BF16, BF16, AnyOrder()).item() < 2.0**-149
    assert error_bound(a, b, BF16, BF16, AnyOrder(flushes=True)).item() == torch.inf
    a, b = torch.tensor([[1.0, 2.0**-71]]), torch.tensor([[1.0, 2.0**-70]])
    kept, flushed = (error_bound(a, b, BF16, BF16, AnyOrder(flushes=flushes)).item() for flushes in (False, True))
    assert 0 <= flushed - kept <= 4 * 2.0**-126 * 1.01


def test_a_bound_that_says_nothing_is_inf() -> None:
    a = torch.ones(1, 64)
    coarse = Aligned(group=1, fraction_bits=1, result_bits=1)
    assert error_bound(1.75 * a, a, BF16, BF16, coarse).isinf().all()
    assert error_bound(2.0**127 * a, a, BF16, BF16, NARROW).isinf().all()


def test_only_finite_values_have_bounds() -> None:
    a = torch.tensor([[1.0, torch.nan]])
    with pytest.raises(ValueError, match="bounds are for finite values; NaN and Inf are judged by the reference alone"):
        error_bound(a, a, BF16, BF16, NARROW)


def test_declarations_are_checked() -> None:
    with pytest.raises(ValueError, match="sums are rounded to NEAREST_EVEN or TOWARD_ZERO, got"):
        AnyOrder(rounding=Rounding.STOCHASTIC)
    with pytest.raises(ValueError, match="fraction_bits must be 1 to 23, got 24"):
        AnyOrder(fraction_bits=24)
    with pytest.raises(ValueError, match="group and fraction_bits must be positive and result_bits 1 to 23"):
        AnyGroups(group=0, fraction_bits=13, result_bits=13)
