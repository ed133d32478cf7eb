"""Scales and zero points that are given, or that a backend finds: checked once for all of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.formats import ElementFormat, IntFormat, IntRange, QuotientDtype, ScaleRule, SymmetricScale
from incref.numerics.granularity import Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import compute_dtype, require_scale
from incref.ops.quantize_affine import require_found_scale

__all__ = ["affine_scale", "float_scale", "require_scale_dtype", "require_zero_point", "why_not_quotient"]

Find = Callable[..., Tensor | tuple[Tensor, Tensor]]
"""What takes the arguments of `compute_scale`."""


def float_scale(
    find: Find, x: Tensor, fmt: ElementFormat, scale: Tensor | None, granularity: Granularity, *, rule: ScaleRule
) -> Tensor:
    """Check the scale that is given, or find it."""
    if scale is None:
        found = find(x, fmt, granularity, rule=rule)
        assert isinstance(found, Tensor)
        scale = found
    require_scale("scale", scale, x.shape, granularity)
    require_scale_dtype(scale, x)
    return scale


def affine_scale(
    find: Find,
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor | None,
    zero_point: Tensor | None,
    *,
    granularity: Granularity,
    rule: ScaleRule,
    symmetric: bool,
    symmetric_scale: SymmetricScale,
    int_range: IntRange,
) -> tuple[Tensor, Tensor | None]:
    """Check the scale and the zero point that are given, or find them."""
    if scale is None:
        require_found_scale(zero_point, symmetric=symmetric, symmetric_scale=symmetric_scale, int_range=int_range)
        found = find(x, fmt, granularity, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        scale, zero_point = found if isinstance(found, tuple) else (found, None)
    require_scale("scale", scale, x.shape, granularity)
    require_scale_dtype(scale, x)
    require_zero_point(zero_point, x, granularity)
    return scale, zero_point


def why_not_quotient(quotient: QuotientDtype) -> str | None:
    """Say that kernels which divide in the compute dtype can't divide in that of x."""
    if quotient is not QuotientDtype.COMPUTE:
        return "quotients are rounded to the compute dtype, not to that of x"
    return None


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
