"""Matrix products without rounding: what float64 can't add exactly is split until it can.

The digits of a split operand are integers of so few bits that no sum of their products needs more than the 53 of
float64, whatever the order: each product of two digit matrices is exact. (The scheme is that of Ozaki, Ogita, Oishi,
Rump: Error-free transformations of matrix multiplication, 2012.) The products of digits are then added as integers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.numerics.accumulate.float_parts import last_bit_of, power_of

__all__ = ["exact_matmul", "exact_matmul_parts"]

_SUM_BITS = 52
_MOST_DIGIT_BITS = 26
_FRACTION_BITS = 52
_TILE = 1024


@dataclass(frozen=True, kw_only=True)
class _Digits:
    """A matrix as `sum(digit[i] * 2**(-i * bits)) * unit`.

    Attributes:
        digits: float64 integers [rows, K] below `2**bits` in magnitude, the leading ones first.
        unit: a power of two for each row, [rows, 1].
        bits: width of a digit.
    """

    digits: Sequence[Tensor]
    unit: Tensor
    bits: int


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply `a` by the transpose of `b`, exactly.

    Args:
        a: float64 [M, K]; every value finite, and the products of two of them within the exponents of float64.
        b: float64 [N, K].

    Returns:
        float64 [M, N]: the exact sums where those have at most 27 bits or one product of float64 matrices was enough;
        elsewhere rounded to odd, with at least 28 bits: a rounding to float32 or less that follows is the only one that
        shows. A sum that is zero is +0.
    """
    return exact_matmul_parts(a, b)[0]


def exact_matmul_parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply `a` by the transpose of `b`; see `exact_matmul`.

    Returns:
        What `exact_matmul` gives, and bool [M, N], whether it was rounded to odd; the exact sum is then less than
        `2**-27` of it away.
    """
    out = torch.zeros(a.shape[0], b.shape[0], dtype=torch.float64, device=a.device)
    is_cut = torch.zeros(out.shape, dtype=torch.bool, device=a.device)
    if out.numel() == 0 or a.shape[1] == 0:
        return out, is_cut
    a_bits, b_bits = _digit_bits(_span(a), _span(b), (a.shape[1] - 1).bit_length())
    for columns in _tiles(b.shape[0]):
        right = _split(b[columns], b_bits)
        for rows in _tiles(a.shape[0]):
            out[rows, columns], is_cut[rows, columns] = _multiply(_split(a[rows], a_bits), right)
    return out, is_cut


def _tiles(extent: int) -> Iterator[slice]:
    for start in range(0, extent, _TILE):
        yield slice(start, min(start + _TILE, extent))


def _span(x: Tensor) -> int:
    """Most bits from the leading bit of a row's largest value to the last bit that is set in the row."""
    ratio = power_of(x).amax(-1) / last_bit_of(x).amin(-1)
    return int(torch.frexp(ratio.max()).exponent)


def _digit_bits(a_span: int, b_span: int, count_bits: int) -> tuple[int, int]:
    """Choose the widths of digits: where one operand is a single digit, it leaves the rest of the bits to the other."""
    room = _SUM_BITS - count_bits
    if a_span + b_span <= room:
        return max(a_span, 1), max(b_span, 1)
    half = min(room // 2, _MOST_DIGIT_BITS)
    if a_span <= half:
        return max(a_span, 1), min(room - max(a_span, 1), _MOST_DIGIT_BITS)
    if b_span <= half:
        return min(room - max(b_span, 1), _MOST_DIGIT_BITS), max(b_span, 1)
    return half, half


def _split(x: Tensor, bits: int) -> _Digits:
    top = power_of(x).amax(-1, keepdim=True)
    unit = torch.where(top == 0, 1.0, top) * 2.0 ** (1 - bits)
    rest = x / unit
    digits = []
    while True:
        digit = rest.trunc()
        digits.append(digit)
        rest = (rest - digit) * 2.0**bits
        if not rest.any():
            return _Digits(digits=digits, unit=unit, bits=bits)


def _multiply(a: _Digits, b: _Digits) -> tuple[Tensor, Tensor]:
    unit = a.unit * b.unit.T
    if len(a.digits) == len(b.digits) == 1:
        return (a.digits[0] @ b.digits[0].T).mul_(unit).add_(0.0), torch.zeros_like(unit, dtype=torch.bool)
    # Where only one operand has several digits, its width is that of the steps; else the widths are the same.
    bits = a.bits if len(a.digits) > 1 else b.bits
    levels = [
        torch.zeros(unit.shape, dtype=torch.int64, device=unit.device) for _ in range(len(a.digits) + len(b.digits) - 1)
    ]
    for i, left in enumerate(a.digits):
        for j, right in enumerate(b.digits):
            levels[i + j] += (left @ right.T).to(torch.int64)
    total, is_cut = _round_to_odd(levels, bits)
    return total.mul_(unit).add_(0.0), is_cut


def _round_to_odd(levels: list[Tensor], bits: int) -> tuple[Tensor, Tensor]:
    """Give `sum(levels[i] * 2**(-i * bits))` as float64, and where bits are left out: its last bit is set there."""
    is_negative = _carry(levels, bits)[0] < 0
    magnitude = _carry([torch.where(is_negative, -level, level) for level in levels], bits)
    total = magnitude[0]
    step = torch.ones(total.shape, dtype=torch.float64, device=total.device)
    is_cut = torch.zeros_like(is_negative)
    for digit in magnitude[1:]:
        has_room = total < 1 << (_FRACTION_BITS + 1 - bits)
        total = torch.where(has_room, (total << bits) | digit, total)
        step = torch.where(has_room, step * 2.0**-bits, step)
        is_cut |= ~has_room & (digit != 0)
    rounded = (total | is_cut).to(torch.float64) * step
    return torch.where(is_negative, -rounded, rounded), is_cut


def _carry(levels: Sequence[Tensor], bits: int) -> list[Tensor]:
    """Bring all levels but the first to 0 .. 2**bits - 1 without changing what they stand for."""
    out = list(levels)
    for i in range(len(out) - 1, 0, -1):
        carry = out[i] >> bits
        out[i] = out[i] - (carry << bits)
        out[i - 1] = out[i - 1] + carry
    return out
