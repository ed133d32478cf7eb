"""Exact sums of products for whole matrices, in integers: what the oracle computes in fractions.

Every row becomes integers times one power of two, and these are split into digits of so few bits that no sum of their
products leaves 64.
"""

import torch
from torch import Tensor

from incref.conformance.judge import data_of
from incref.oracle.arithmetic import multiply
from incref.oracle.datum import Datum, number
from incref.oracle.dot import exact_sum
from incref.oracle.powers import power_of_two

__all__ = ["exact_sums"]

_SIGNIFICANT_BITS = 53
_INT64_BITS = 63
"""Without the sign."""


def exact_sums(x: Tensor, w: Tensor) -> list[list[Datum]]:
    """Multiply `x` by the transpose of `w`, exactly.

    Args:
        x: float64 [M, K].
        w: float64 [N, K].

    Returns:
        For each row of `x` and of `w` what the oracle's `exact_sum` makes of their products: NaN and Inf as there, and
        +0 for a sum of 0.
    """
    bits = (_INT64_BITS - x.shape[1].bit_length()) // 2
    left, left_unit = _digits(x, bits)
    right, right_unit = _digits(w, bits)
    totals = [[0] * w.shape[0] for _ in range(x.shape[0])]
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            for row, products in zip(totals, (one @ other.T).tolist(), strict=True):
                row[:] = [total + (product << (i + j) * bits) for total, product in zip(row, products, strict=True)]
    found = [
        [number(total * power_of_two(unit + by)) for total, by in zip(row, right_unit, strict=True)]
        for row, unit in zip(totals, left_unit, strict=True)
    ]
    _put_specials(found, x, w)
    return found


def _digits(x: Tensor, bits: int) -> tuple[list[Tensor], list[int]]:
    """Integers whose sum, each times `2**bits` more than the one before, is a row over its unit; 0 for what is special.

    Returns:
        The integers, int64, least first, and the exponent of the unit of each row.

    Raises:
        ValueError: if numbers of a row are so far apart that their quotient is beyond float64.
    """
    values = torch.where(x.isfinite(), x, 0.0)
    mantissa, exponent = torch.frexp(values)
    whole = (mantissa * 2.0**_SIGNIFICANT_BITS).to(torch.int64)
    last = exponent - _SIGNIFICANT_BITS + torch.frexp((whole & -whole).to(torch.float64)).exponent - 1
    never = torch.iinfo(last.dtype).max
    # Rows without columns and rows of zeros have any unit.
    first = torch.cat([torch.where(values == 0, never, last), last.new_full((len(x), 1), never)], 1).amin(-1)
    unit = torch.where(first == never, 0, first)
    rest = values * 2.0 ** -unit.unsqueeze(-1).to(torch.float64)
    if not bool(rest.isfinite().all()):
        raise ValueError("numbers of a row must not be further apart than float64 reaches")
    digits: list[Tensor] = []
    while not digits or bool(rest.any()):
        digit = rest.fmod(2.0**bits)
        digits.append(digit.to(torch.int64))
        rest = (rest - digit) / 2.0**bits
    return digits, unit.tolist()


def _put_specials(found: list[list[Datum]], x: Tensor, w: Tensor) -> None:
    """Replace the sums of rows with NaN or Inf by what the oracle says of them."""
    has_left, has_right = (~factor.isfinite().all(-1) for factor in (x, w))
    if not bool(has_left.any() or has_right.any()):
        return
    left, right = ([data_of(row) for row in factor] for factor in (x, w))
    for m, n in (has_left.unsqueeze(-1) | has_right).nonzero().tolist():
        found[m][n] = exact_sum([multiply(a, b) for a, b in zip(left[m], right[n], strict=True)])
