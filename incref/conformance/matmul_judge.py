"""The oracle's answers for products of scaled matrices, element by element."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.conformance.block_judge import block_places
from incref.conformance.judge import LAYOUTS, data_of, values_of
from incref.formats import FORMATS, FloatFormat, ScaleOrder
from incref.numerics.granularity import Granularity
from incref.oracle.datum import Datum
from incref.oracle.scaled_dot import scaled_dot
from incref.oracle.values import decode

__all__ = ["judged_matmul", "scales_of_elements"]


def scales_of_elements(scale: Tensor | None, shape: Sequence[int], granularity: Granularity) -> list[Datum | None]:
    """Say for every element of a tensor of `shape`, in row-major order, what scales it; uint8 are codes of E8M0."""
    found: list[Datum | None] = [None] * torch.Size(shape).numel()
    if scale is None:
        return found
    if scale.dtype is torch.uint8:
        e8m0 = FORMATS["float8_e8m0fnu"]
        assert isinstance(e8m0, FloatFormat)
        data = [decode(code, e8m0) for code in scale.flatten().tolist()]
    else:
        data = data_of(scale)
    for places, one in zip(block_places(shape, granularity), data, strict=True):
        for place in places:
            found[place] = one
    return found


def judged_matmul(
    x: Tensor,
    w: Tensor,
    x_scales: Sequence[Datum | None],
    w_scales: Sequence[Datum | None],
    *,
    order: ScaleOrder,
    stretch: int,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Multiply float64 `x` [..., K] by the transpose of `w` [N, K], each element with its scale."""
    length = x.shape[-1]
    left = list(zip(data_of(x), x_scales, strict=True))
    right = list(zip(data_of(w), w_scales, strict=True))
    biases: Sequence[Datum | None] = [None] * w.shape[0] if bias is None else data_of(bias)
    rows = x.numel() // length if length else x.shape[:-1].numel()
    found = [
        scaled_dot(
            left[m * length : (m + 1) * length],
            right[n * length : (n + 1) * length],
            order=order,
            stretch=stretch,
            bias=biases[n],
            to=LAYOUTS[dtype],
        )
        for m in range(rows)
        for n in range(w.shape[0])
    ]
    return values_of(found, dtype).view(*x.shape[:-1], w.shape[0])
