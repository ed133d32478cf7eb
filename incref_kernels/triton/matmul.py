"""What launchers of matrix products have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import ScaleOrder
from incref.numerics.granularity import Granularity
from incref.numerics.scaled import require_scale
from incref.numerics.scaled_matmul import as_rows

__all__ = ["LEAST_K", "RowScale", "row_scale", "row_values", "stretch_of", "swapped", "why_not_order"]

LEAST_K = 32
"""The smallest extent along K that `tl.dot` takes for codes of 8 bits, on every target."""

_SCALE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.uint8)


@dataclass(frozen=True, kw_only=True)
class RowScale:
    """The scales of a matrix [rows, K].

    Attributes:
        scale: [rows of scales, blocks], contiguous; None for 1.
        extent: rows that share one; 0 for all.
        block: elements along K that share one; 0 for all.
    """

    scale: Tensor | None
    extent: int = 0
    block: int = 0

    @property
    def blocks(self) -> int:
        """How many scales a row has."""
        return 1 if self.scale is None else self.scale.shape[1]


def row_scale(name: str, scale: Tensor | None, shape: Sequence[int], granularity: Granularity) -> RowScale:
    """Give scales of a tensor [..., K] as those of a matrix, in the dtype that they are stored in.

    Args:
        name: of the scale, for errors.
        scale: float32, bfloat16, float16 or uint8 (codes of E8M0), in the shape that `granularity` gives; None for 1.
        shape: of the tensor.
        granularity: which elements share a scale.

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape.
    """
    if scale is not None and scale.dtype not in _SCALE_DTYPES:
        raise TypeError(
            f"{name} must be torch.float32, torch.bfloat16, torch.float16 or torch.uint8 (E8M0), got {scale.dtype}"
        )
    return row_values(name, scale, shape, granularity)


def row_values(name: str, scale: Tensor | None, shape: Sequence[int], granularity: Granularity) -> RowScale:
    """Give scales, or zero points, of a tensor [..., K] as those of a matrix; see `row_scale`."""
    if scale is None:
        return RowScale(scale=None)
    block = granularity.block_shape(shape)
    factor = require_scale(name, scale, torch.Size(shape), granularity)
    if factor.shape[-1] == 0:
        # Rows without elements have no blocks either.
        return RowScale(scale=None)
    along = 0 if block[-1] >= shape[-1] else block[-1]
    lead = list(zip(block[:-1], shape[:-1], strict=True))
    if all(extent >= size for extent, size in lead):
        extent = 0
    elif len(lead) == 1 or all(extent == 1 for extent, _ in lead):
        extent = lead[-1][0]
    else:
        for d, (extent, size) in enumerate(lead):
            factor = factor.repeat_interleave(extent, d).narrow(d, 0, size)
        extent = 1
    return RowScale(scale=as_rows(factor).contiguous(), extent=extent, block=along)


def stretch_of(*scales: RowScale) -> int:
    """How many elements along K share all scales; 0 for all of K.

    Raises:
        ValueError: if blocks come in two sizes.
    """
    sizes = {one.block for one in scales if one.block}
    if len(sizes) > 1:
        raise ValueError(
            f"scales along K must come in blocks of one size, got {sorted(sizes)}; ScaleOrder.EXACT takes any"
        )
    return sizes.pop() if sizes else 0


def swapped(order: ScaleOrder) -> ScaleOrder:
    """The same order, for the product with its factors exchanged."""
    return {ScaleOrder.X_THEN_W: ScaleOrder.W_THEN_X, ScaleOrder.W_THEN_X: ScaleOrder.X_THEN_W}.get(order, order)


def why_not_order(order: ScaleOrder, *scales_and_bias: Tensor | None) -> str | None:
    """Say why scales can't enter in an order."""
    if order is ScaleOrder.EXACT and any(each is not None for each in scales_and_bias):
        return "it rounds the sum before scales and bias enter, so it takes ScaleOrder.EXACT without them only"
    return None
