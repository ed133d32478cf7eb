"""NaN and Inf in matrix products, against the oracle's exact sums."""

import itertools
import math

import torch

from incref.conformance.judge import assert_same_bits, data_of, values_of
from incref.numerics.special_matmul import matmul_with_specials
from incref.oracle.arithmetic import multiply
from incref.oracle.dot import exact_sum

VALUES = [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan]


def test_all_pairs_of_two_terms() -> None:
    pairs = torch.tensor(list(itertools.product(VALUES, repeat=2)), dtype=torch.float64)
    got = matmul_with_specials(pairs, pairs)
    rows = [data_of(pair) for pair in pairs]
    found = [exact_sum([multiply(x, y) for x, y in zip(row, column, strict=True)]) for row in rows for column in rows]
    assert_same_bits(got, values_of(found, torch.float64).view(len(rows), len(rows)))


def test_a_nan_stays_in_its_row_and_column() -> None:
    a, b = torch.ones(4, 5, dtype=torch.float64), torch.ones(3, 5, dtype=torch.float64)
    a[1, 2], b[2, 0] = math.nan, math.nan
    got = matmul_with_specials(a, b)
    is_nan = torch.zeros(4, 3, dtype=torch.bool)
    is_nan[1], is_nan[:, 2] = True, True
    assert torch.equal(got.isnan(), is_nan)
    assert (got[~is_nan] == 5).all()
