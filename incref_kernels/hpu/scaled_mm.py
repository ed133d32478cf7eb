"""`scaled_mm`: `fp8_matmul` by PyTorch's own operator `_scaled_mm`, which on a Gaudi is that of `fp8_gemm_v2`.

It is what programs call that are written for PyTorch, as torchao is, and obeys the same contract.
"""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled_matmul import as_rows
from incref_kernels.hpu.available import declared_sums
from incref_kernels.hpu.casts import as_float8
from incref_kernels.hpu.fp8_matmul import why_not as why_not_product
from incref_kernels.hpu.scales import float_scale

__all__ = ["KERNEL", "scaled_mm"]


def scaled_mm(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,  # noqa: ARG001  # why_not takes one value only
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Run `incref.ops.fp8_matmul` by `torch._scaled_mm`: one scale for each factor, or one for each row of both."""
    del x_granularity, w_granularity
    assert x_scale is not None
    assert w_scale is not None
    left, right = float_scale(x_scale), float_scale(w_scale)
    if left.ndim:
        left, right = left.reshape(-1, 1), right.reshape(1, -1)
    factors = as_float8(as_rows(x), x_fmt), as_float8(w, w_fmt).T
    y = torch._scaled_mm(*factors, left, right, bias, None, dtype)  # noqa: SLF001  # PyTorch gives it no other name
    return y.view(*x.shape[:-1], w.shape[0])


def why_not(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> str | None:
    """Say which arguments the operator can't take."""
    if x_scale is None or w_scale is None:
        return "torch._scaled_mm needs a scale for either factor"
    if (x_granularity == PER_TENSOR) != (w_granularity == PER_TENSOR):
        return f"both factors have one scale, or one for each row, got {x_granularity} and {w_granularity}"
    return why_not_product(
        x,
        w,
        x_scale,
        w_scale,
        x_fmt=x_fmt,
        w_fmt=w_fmt,
        x_granularity=x_granularity,
        w_granularity=w_granularity,
        bias=bias,
        order=order,
        dtype=dtype,
    )


KERNEL = Kernel(fn=scaled_mm, why_not=why_not, accumulator=declared_sums)
