"""`fp8_conv2d`: one operator, which scales if there is one scale for all; one a filter is multiplied afterwards."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patches import Pair
from incref.ops.fp8_conv2d import PER_FILTER
from incref_kernels.hpu.available import declared_sums, mode, why_not_device
from incref_kernels.hpu.casts import WIDE, as_float8, why_not_factors
from incref_kernels.hpu.scales import as_number, float_scale
from incref_kernels.hpu.simulator.options import Mode

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
    numbers: tuple[float, float] | None = None,
) -> Tensor:
    """Run `incref.ops.fp8_conv2d` by `conv2d_fp8`; `numbers` are the scales, if they are known before.

    No test of the vendor gives that operator a scale for every filter, so those scale its sums in float32. As for
    products, scales are tensors where operators run eagerly.
    """
    one, other = as_float8(x, x_fmt), as_float8(w, w_fmt)
    geometry = (list(stride), list(padding), list(dilation), groups)
    if numbers is not None and mode() is not Mode.EAGER:
        scaled: Tensor = torch.ops.hpu.conv2d_fp8.scalar(one, other, bias, *geometry, dtype, *numbers)
        return scaled
    left, right = (None if scale is None else float_scale(scale) for scale in (x_scale, w_scale))
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
    reason = why_not_factors(("x", x, x_fmt), ("w", w, w_fmt))
    return reason or why_not_device(x=x, w=w, x_scale=x_scale, w_scale=w_scale, bias=bias)


def with_scales(*, x_scale: Tensor, w_scale: Tensor) -> Kernel:
    """Make the kernel that knows both scales as numbers, which compilers of graphs can fold into the product."""
    numbers = as_number(x_scale), as_number(w_scale)
    return Kernel(fn=partial(fp8_conv2d, numbers=numbers), why_not=why_not, accumulator=declared_sums)


KERNEL = Kernel(fn=fp8_conv2d, why_not=why_not, accumulator=declared_sums, with_scales=with_scales)
