"""The oracle's answers for products of scaled matrices: exact sums, and the oracle's steps after them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.conformance.block_judge import spread_scales
from incref.conformance.exact_sums import exact_sums
from incref.conformance.judge import LAYOUTS, data_of, values_of
from incref.formats import ScaleOrder
from incref.numerics.granularity import Granularity
from incref.oracle.datum import Datum
from incref.oracle.dot import exact_sum
from incref.oracle.encode import round_to
from incref.oracle.scaled_dot import scale_sums

__all__ = ["judged_matmul", "scales_of_elements"]

_SIGNIFICANT_BITS = 53


def scales_of_elements(scale: Tensor | None, shape: Sequence[int], granularity: Granularity) -> Tensor | None:
    """Say for every element of a tensor of `shape` what scales it, in float64; uint8 are codes of E8M0."""
    return None if scale is None else spread_scales(scale, shape, granularity)


def judged_matmul(
    x: Tensor,
    w: Tensor,
    x_scales: Tensor | None,
    w_scales: Tensor | None,
    *,
    order: ScaleOrder,
    stretch: int,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Multiply as the oracle's `scaled_dot` does.

    Args:
        x: float64 [..., K].
        w: float64 [N, K].
        x_scales: of every element of `x`, float64; None for 1.
        w_scales: likewise.
        order: where scales enter.
        stretch: how many consecutive values along K share their scales, in any order but EXACT.
        bias: [N], or None.
        dtype: of the result.
    """
    shape = (*x.shape[:-1], w.shape[0])
    rows = torch.Size(shape[:-1]).numel()
    x = x.reshape(rows, x.shape[-1])
    x_scales = None if x_scales is None else x_scales.reshape(x.shape)
    biases: Sequence[Datum | None] = [None] * w.shape[0] if bias is None else data_of(bias)
    to = LAYOUTS[dtype]
    if order is ScaleOrder.EXACT or (x_scales is None and w_scales is None and bias is None):
        sums = exact_sums(_scaled(x, x_scales), _scaled(w, w_scales))
        found = [
            round_to(one if more is None else exact_sum([one, more]), to)
            for row in sums
            for one, more in zip(row, biases, strict=True)
        ]
        return values_of(found, dtype).view(shape)
    starts = range(0, max(x.shape[1], 1), max(stretch, 1))
    parts = [exact_sums(x[:, start : start + stretch], w[:, start : start + stretch]) for start in starts]
    left, right = (_of_stretches(scales, len(one), starts) for scales, one in ((x_scales, x), (w_scales, w)))
    found = [
        scale_sums(
            [part[m][n] for part in parts],
            list(zip(left[m], right[n], strict=True)),
            order=order,
            bias=biases[n],
            to=to,
        )
        for m in range(rows)
        for n in range(w.shape[0])
    ]
    return values_of(found, dtype).view(shape)


def _scaled(values: Tensor, scales: Tensor | None) -> Tensor:
    """The exact products of values and their scales."""
    if scales is None:
        return values
    bits = sum(_most_bits(one) for one in (values, scales))
    assert bits <= _SIGNIFICANT_BITS, f"products of {bits} bits are not exact in float64"
    return values * scales


def _most_bits(x: Tensor) -> int:
    """How many significant bits numbers have at most."""
    mantissa = torch.frexp(torch.where(x.isfinite(), x, 0.0)).mantissa.flatten()
    whole = (mantissa * 2.0**_SIGNIFICANT_BITS).to(torch.int64)
    # The last bit of 2**53 stands for that of a zero, which has none.
    last = torch.where(whole == 0, 1 << _SIGNIFICANT_BITS, whole & -whole)
    least = int(last.min()) if last.numel() else 1 << _SIGNIFICANT_BITS
    return _SIGNIFICANT_BITS + 1 - least.bit_length()


def _of_stretches(scales: Tensor | None, rows: int, starts: range) -> list[list[Datum | None]]:
    """The scale of each row in each stretch."""
    if scales is None or not scales.shape[-1]:
        return [[None] * len(starts) for _ in range(rows)]
    data = data_of(scales[:, starts.start :: starts.step])
    return [list(data[at : at + len(starts)]) for at in range(0, rows * len(starts), len(starts))]
