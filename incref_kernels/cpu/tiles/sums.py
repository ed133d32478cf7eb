"""What follows a sum of products of integers."""

import torch
from torch import Tensor

from incref.formats import ScaleOrder
from incref.numerics.scaled_matmul import apply_scales
from incref_kernels.cpu.tiles.store import round_to

__all__ = ["scaled_sum_tile"]


def scaled_sum_tile(
    acc: Tensor, *given: Tensor, names: tuple[str, ...], order: ScaleOrder, dtype: torch.dtype
) -> Tensor:
    """Correct sums for the zero point of x, scale them, add the bias and round, as `int8_matmul` says.

    Args:
        acc: int32, sums of products of codes, modulo 2**32.
        given: what else there is.
        names: of these: zero and w_sum, int32, which belong together; x_scale, w_scale and bias, float32.
        order: where the scales enter.
        dtype: of the result.
    """
    parts = dict(zip(names, given, strict=True))
    if "zero" in parts:
        acc = acc - parts["zero"] * parts["w_sum"]
    value = apply_scales(acc.to(torch.float32), parts.get("x_scale"), parts.get("w_scale"), order)
    if "bias" in parts:
        value = value + parts["bias"]
    return round_to(value, dtype)
