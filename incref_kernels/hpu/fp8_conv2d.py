"""`fp8_conv2d`: one operator, which scales if there is one scale for all; one a filter is multiplied afterwards."""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patches import Pair
from incref.ops.encode import get_element_format
from incref.ops.fp8_conv2d import PER_FILTER
from incref_kernels.hpu.available import chip, declared_sums, float8_dtype, why_not_device
from incref_kernels.hpu.casts import WIDE, why_not_format
from incref_kernels.hpu.scales import float_scale

__all__ = ["KERNEL", "fp8_conv2d"]


def fp8_conv2d(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    w_granularity: Granularity = PER_TENSOR,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,  # noqa: ARG001  # why_not takes one value only
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Run `incref.ops.fp8_conv2d` by `conv2d_fp8`.

    No test of the vendor gives that operator a scale for every filter, so those scale its sums in float32.
    """
    one, other = (
        codes.view(float8_dtype(get_element_format(fmt)))  # type: ignore[arg-type]  # why_not has seen the format
        for codes, fmt in ((x, x_fmt), (w, w_fmt))
    )
    left, right = (None if scale is None else float_scale(scale) for scale in (x_scale, w_scale))
    geometry = (list(stride), list(padding), list(dilation), groups)
    if right is None or w_granularity == PER_TENSOR:
        y: Tensor = torch.ops.hpu.conv2d_fp8(one, other, bias, *geometry, dtype, left, right)
        return y
    sums: Tensor = torch.ops.hpu.conv2d_fp8(one, other, None, *geometry, torch.float32, None, None)
    rows = right.view(-1, 1, 1)
    sums = sums * (rows if left is None else left * rows)
    return (sums if bias is None else sums + bias.to(torch.float32).view(-1, 1, 1)).to(dtype)


def why_not(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
    **_geometry: object,
) -> str | None:
    """Say which arguments the operator can't take."""
    if order is not ScaleOrder.PRODUCT:
        return f"the scales are multiplied with each other, and the sum with that; got {order}"
    if dtype not in WIDE:
        return f"convolutions are torch.float32 or torch.bfloat16, got {dtype}"
    if w_granularity not in (PER_TENSOR, PER_FILTER):
        return f"there is one scale for w, or one for each filter, not {w_granularity}"
    one, other = get_element_format(x_fmt), get_element_format(w_fmt)
    if chip() == "gaudi2" and one.name != other.name:
        return f"gaudi2 has no product of {one.name} and {other.name}"
    for name, codes in (("x", x), ("w", w)):
        if codes.dtype is not torch.uint8:
            return f"codes of {name} must be torch.uint8, got {codes.dtype}"
    reason = why_not_format(x_fmt) or why_not_format(w_fmt)
    return reason or why_not_device(x=x, w=w, x_scale=x_scale, w_scale=w_scale, bias=bias)


KERNEL = Kernel(fn=fp8_conv2d, why_not=why_not, accumulator=declared_sums)
