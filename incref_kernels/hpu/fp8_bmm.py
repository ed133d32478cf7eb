"""`fp8_bmm`: one product of batches, as Neural Compressor multiplies in attention (`matmul_fp8`)."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, ScaleOrder
from incref_kernels.hpu.available import declared_sums, mode, why_not_device
from incref_kernels.hpu.casts import WIDE, as_float8, why_not_factors
from incref_kernels.hpu.scales import as_number, float_scale
from incref_kernels.hpu.simulator.options import Mode

__all__ = ["KERNEL", "fp8_bmm"]


def fp8_bmm(
    x: Tensor,
    y: Tensor,
    x_scale: Tensor | None,
    y_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    y_fmt: str | Format,
    order: ScaleOrder = ScaleOrder.PRODUCT,  # noqa: ARG001  # why_not takes one value only
    dtype: torch.dtype = torch.float32,
    numbers: tuple[float, float] | None = None,
) -> Tensor:
    """Run `incref.ops.fp8_bmm` by `fp8_gemm_v2`; `numbers` are the scales, if they are known before.

    The vendor's tests leave powers of two as numbers out where operators run eagerly, so scales are tensors there.
    """
    head = (as_float8(x, x_fmt), False, as_float8(y, y_fmt), False, None, dtype)
    if numbers is not None and mode() is not Mode.EAGER:
        scaled: Tensor = torch.ops.hpu.fp8_gemm_v2.scalar(*head, *numbers)
        return scaled
    scales = (None if scale is None else float_scale(scale) for scale in (x_scale, y_scale))
    z: Tensor = torch.ops.hpu.fp8_gemm_v2(*head, *scales)
    return z


def why_not(
    x: Tensor,
    y: Tensor,
    x_scale: Tensor | None,
    y_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    y_fmt: str | Format,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> str | None:
    """Say which arguments the product can't take."""
    if order is not ScaleOrder.PRODUCT:
        return f"the scales are multiplied with each other, and the sum with that; got {order}"
    if dtype not in WIDE:
        return f"products are torch.float32 or torch.bfloat16, got {dtype}"
    reason = why_not_factors(("x", x, x_fmt), ("y", y, y_fmt))
    return reason or why_not_device(x=x, y=y, x_scale=x_scale, y_scale=y_scale)


def with_scales(*, x_scale: Tensor, y_scale: Tensor) -> Kernel:
    """Make the kernel that knows both scales as numbers, which compilers of graphs can fold into the product."""
    numbers = as_number(x_scale), as_number(y_scale)
    return Kernel(fn=partial(fp8_bmm, numbers=numbers), why_not=why_not, accumulator=declared_sums)


KERNEL = Kernel(fn=fp8_bmm, why_not=why_not, accumulator=declared_sums, with_scales=with_scales)
