"""Checks of scales and zero points that are given."""

import torch
from torch import Tensor

from incref.numerics.granularity import Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import compute_dtype, require_scale

__all__ = ["require_scale_dtype", "require_zero_point"]


def require_scale_dtype(scale: Tensor, x: Tensor) -> None:
    """Refuse scales that are wider than the arithmetic on `x`; uint8 are codes of E8M0."""
    compute = compute_dtype(x.dtype)
    if scale.dtype is not torch.uint8 and float_format_of(scale.dtype).bits > float_format_of(compute).bits:
        raise TypeError(f"the arithmetic is in {compute}, so the scale must not be wider, got {scale.dtype}")


def require_zero_point(zero_point: Tensor | None, x: Tensor, granularity: Granularity) -> None:
    """Refuse zero points of another dtype or shape."""
    if zero_point is None:
        return
    if zero_point.dtype is not torch.int32:
        raise TypeError(f"zero_point must be torch.int32, got {zero_point.dtype}")
    require_scale("zero_point", zero_point, x.shape, granularity)
