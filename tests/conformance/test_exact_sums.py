"""Exact sums of whole matrices against the oracle's, element by element."""

import pytest
import torch
from torch import Tensor

from incref.conformance.exact_sums import exact_sums
from incref.conformance.judge import data_of
from incref.oracle.arithmetic import multiply
from incref.oracle.datum import Datum, number
from incref.oracle.dot import exact_sum


def one_by_one(x: Tensor, w: Tensor) -> list[list[Datum]]:
    rows, columns = [data_of(row) for row in x], [data_of(row) for row in w]
    return [
        [exact_sum([multiply(a, b) for a, b in zip(row, column, strict=True)]) for column in columns] for row in rows
    ]


def draw(*shape: int, seed: int, span: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    powers = torch.randint(-span, span + 1, shape, generator=generator).double()
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 2.0**powers


@pytest.mark.parametrize("span", [0, 20, 200])
def test_sums_of_numbers_however_far_apart_are_exact(span: int) -> None:
    x, w = draw(4, 37, seed=0, span=span), draw(3, 37, seed=1, span=span)
    assert exact_sums(x, w) == one_by_one(x, w)


def test_digits_of_one_sign_do_not_leave_64_bits() -> None:
    x = torch.full((1, 4099), 2.0**53 - 1, dtype=torch.float64)
    ((total,),) = exact_sums(x, -x)
    assert total == number(-4099 * (2**53 - 1) ** 2)


def test_specials_are_those_of_the_oracle() -> None:
    inf, nan = torch.inf, torch.nan
    x = torch.tensor([[inf, 1.0], [nan, 1.0], [inf, -inf], [1.0, 2.0], [-0.0, 0.0]], dtype=torch.float64)
    w = torch.tensor([[1.0, 1.0], [0.0, 1.0], [-1.0, inf], [nan, 0.0]], dtype=torch.float64)
    assert exact_sums(x, w) == one_by_one(x, w)


def test_empty_matrices() -> None:
    assert exact_sums(torch.zeros(2, 0).double(), torch.zeros(1, 0).double()) == [[number(0)], [number(0)]]
    assert exact_sums(torch.zeros(0, 3).double(), torch.zeros(2, 3).double()) == []
    assert exact_sums(torch.zeros(2, 3).double(), torch.zeros(0, 3).double()) == [[], []]


def test_what_float64_cannot_hold_over_its_unit_is_refused() -> None:
    x = torch.tensor([[2.0**1000, 2.0**-1000]], dtype=torch.float64)
    with pytest.raises(ValueError, match="must not be further apart than float64 reaches"):
        exact_sums(x, x)
