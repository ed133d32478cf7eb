"""Sizes of launches."""

from hypothesis import given
from hypothesis import strategies as st

from incref_kernels.triton.sizes import cdiv, next_power_of_2


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 40))
def test_cdiv_is_the_least_number_of_parts(size: int, extent: int) -> None:
    parts = cdiv(size, extent)
    assert (parts - 1) * extent < size <= parts * extent


@given(st.integers(1, 1 << 40))
def test_next_power_of_2_is_the_least(size: int) -> None:
    power = next_power_of_2(size)
    assert power.bit_count() == 1
    assert power // 2 < size <= power
