"""`dequantize_float`: one cast that multiplies with the scale."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled import require_scale
from incref_kernels.hpu.available import why_not_device
from incref_kernels.hpu.casts import WIDE, from_float8, why_not_format
from incref_kernels.hpu.runtime import mark_step
from incref_kernels.hpu.scales import as_number, float_scale, why_not_granularity

__all__ = ["KERNEL", "dequantize_float"]


def dequantize_float(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
    number: float | None = None,
) -> Tensor:
    """Run `incref.ops.dequantize_float` by `cast_from_fp8`, which multiplies in the dtype of its result.

    Only a scale that has that dtype is not rounded by it; for another the product is computed in float32, and then
    rounded. The graph is cut before, so that codes that were just made are really there. `number` is the scale, one in
    float32, if it is known before.
    """
    mark_step()
    if number is not None:
        return from_float8(codes, number, fmt, torch.float32).to(dtype)
    factor = require_scale("scale", scale, codes.shape, granularity)
    if factor.dtype is dtype and dtype in WIDE:
        return from_float8(codes, factor, fmt, dtype)
    return from_float8(codes, float_scale(factor), fmt, torch.float32).to(dtype)


def why_not(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> str | None:
    """Say which arguments the cast can't take."""
    if codes.dtype is not torch.uint8:
        return f"codes must be torch.uint8, got {codes.dtype}"
    if dtype not in (*WIDE, torch.float16) or scale.dtype is torch.float64:
        return f"products are in float32 or bfloat16, got a scale of {scale.dtype} and a result of {dtype}"
    return why_not_format(fmt) or why_not_granularity(codes.shape, granularity) or why_not_device(codes=codes)


def with_scales(*, scale: Tensor) -> Kernel:
    """Make the kernel that knows the scale as a number."""
    return Kernel(fn=partial(dequantize_float, number=as_number(scale)), why_not=why_not)


KERNEL = Kernel(fn=dequantize_float, why_not=why_not, with_scales=with_scales)
