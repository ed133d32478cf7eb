"""Accumulators refuse parameters that no sum has."""

import pytest

from incref.formats import Rounding
from incref.numerics.accumulate.models import Aligned, Carry, Promoted, Reordered, SplitK

PLAIN = Aligned(group=32, fraction_bits=13, result_bits=13)


def test_sums_that_float64_can_not_add_exactly_are_refused() -> None:
    assert Aligned(group=32, fraction_bits=45, result_bits=23).fraction_bits == 45
    with pytest.raises(ValueError, match=r"fraction_bits \+ 2 \+ bits of group must be at most 53, got Aligned"):
        Aligned(group=32, fraction_bits=46, result_bits=23)


@pytest.mark.parametrize("options", [{"group": 0}, {"fraction_bits": 0}, {"result_bits": 24}, {"result_bits": 0}])
def test_widths_are_positive(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="group and fraction_bits must be positive and result_bits 1 to 23"):
        Aligned(**{"group": 8, "fraction_bits": 13, "result_bits": 13, **options})


@pytest.mark.parametrize("options", [{"carry": Carry.REALIGNED}, {"carry_bits": 31}])
def test_realigned_sums_have_bits_of_their_own(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="carry_bits goes with REALIGNED, and REALIGNED with it, got Aligned"):
        Aligned(group=8, fraction_bits=24, result_bits=23, **options)


def test_roundings_are_those_of_matrix_units() -> None:
    with pytest.raises(ValueError, match="an aligned sum rounds TOWARD_ZERO, TOWARD_NEGATIVE or to NEAREST_EVEN"):
        Aligned(group=8, fraction_bits=13, result_bits=13, term_rounding=Rounding.STOCHASTIC)


def test_stretches_hold_whole_groups() -> None:
    with pytest.raises(ValueError, match="every must be a multiple of the group, 32, got 48"):
        Promoted(inner=PLAIN, every=48)


def test_a_split_has_parts() -> None:
    with pytest.raises(ValueError, match="parts and tile must be positive, got 0 and 1"):
        SplitK(inner=PLAIN, parts=0)


@pytest.mark.parametrize("order", [tuple(range(31)), (0,) * 32, tuple(range(1, 33))])
def test_an_order_has_each_place_once(order: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="order must have each place once, a multiple of the group of 32, got"):
        Reordered(inner=PLAIN, order=order)
