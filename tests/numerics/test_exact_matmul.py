"""Exact matrix products: any span of exponents, rounded once whatever follows."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import LAYOUTS, assert_same_bits, values_of
from incref.numerics import exact_matmul as module
from incref.numerics.exact_matmul import exact_matmul
from incref.numerics.scaled import round_to_half
from incref.oracle.datum import number
from incref.oracle.encode import round_to


def rows(count: int, length: int, powers: tuple[int, int], *, seed: int) -> Tensor:
    """float32 values with exponents in a range."""
    generator = torch.Generator().manual_seed(seed)
    size = 1 + torch.rand(count, length, generator=generator)
    power = torch.randint(powers[0], powers[1] + 1, (count, length), generator=generator)
    sign = torch.randint(0, 2, (count, length), generator=generator) * 2 - 1
    return (sign * size * torch.exp2(power.float())).to(torch.float64)


def judged(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    exact = [
        [
            sum((Fraction(x) * Fraction(y) for x, y in zip(row, column, strict=True)), Fraction(0))
            for column in b.tolist()
        ]
        for row in a.tolist()
    ]
    found = [round_to(number(value), LAYOUTS[dtype]) for values in exact for value in values]
    return values_of(found, dtype).view(a.shape[0], b.shape[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("powers", [(0, 0), (-3, 3), (-30, 20), (-120, 60), (-149, -130), (100, 127)], ids=str)
def test_sums_are_rounded_once(powers: tuple[int, int], dtype: torch.dtype) -> None:
    for length in (1, 3, 65):
        a, b = rows(4, length, powers, seed=length), rows(5, length, powers, seed=length + 1)
        # Cancellation leaves only what the smallest bits hold.
        a[1, length // 2 :], b[:, length // 2 :] = -a[1, : length - length // 2], b[:, : length - length // 2]
        a[2] = 0
        got = round_to_half(exact_matmul(a, b), dtype).to(dtype)
        assert_same_bits(got, judged(a, b, dtype), note=length)


def test_narrow_operands_beside_wide_ones() -> None:
    wide, narrow = rows(4, 40, (-100, 100), seed=1), rows(4, 40, (0, 0), seed=2).sign()
    for a, b in ((wide, narrow), (narrow, wide), (narrow, narrow), (wide, 3 * narrow)):
        assert_same_bits(exact_matmul(a, b).to(torch.float32), judged(a, b, torch.float32))


def test_a_sum_just_off_a_tie_is_not_taken_for_one() -> None:
    tie, least = 1 + 2.0**-24, 2.0**-140
    a = torch.tensor([[tie, least, 0.0], [tie, -least, 0.0], [tie, 0.0, 0.0], [-tie, -least, 0.0]], dtype=torch.float64)
    got = exact_matmul(a, torch.ones(1, 3, dtype=torch.float64)).to(torch.float32)
    assert got.flatten().tolist() == [1 + 2.0**-23, 1.0, 1.0, -1 - 2.0**-23]


def test_a_zero_sum_is_positive() -> None:
    a = torch.tensor([[-0.0, 0.0], [1.0, -1.0], [2.0**100, -(2.0**100)]], dtype=torch.float64)
    b = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    assert_same_bits(exact_matmul(a, b), torch.zeros(3, 2, dtype=torch.float64))


def test_large_products_are_made_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rows(7, 20, (-40, 40), seed=1), rows(9, 20, (-40, 40), seed=2)
    whole = exact_matmul(a, b)
    monkeypatch.setattr(module, "_TILE", 3)
    assert_same_bits(exact_matmul(a, b).to(torch.float32), whole.to(torch.float32))


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_matrices(shape: tuple[int, int, int]) -> None:
    M, N, K = shape
    got = exact_matmul(torch.ones(M, K, dtype=torch.float64), torch.ones(N, K, dtype=torch.float64))
    assert_same_bits(got, torch.zeros(M, N, dtype=torch.float64))
