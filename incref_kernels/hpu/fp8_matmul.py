"""`fp8_matmul`: one product that is scaled in its epilogue."""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel
from incref.numerics.scaled import require_scale
from incref.ops.encode import get_element_format
from incref_kernels.hpu.available import chip, declared_sums, float8_dtype, why_not_device
from incref_kernels.hpu.casts import WIDE, why_not_format
from incref_kernels.hpu.scales import float_scale

__all__ = ["KERNEL", "fp8_matmul"]

_SCALED_ROWS = (PER_TENSOR, PER_TOKEN, per_channel())


def fp8_matmul(
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
    """Run `incref.ops.fp8_matmul` by `fp8_gemm_v2`; codes that have more dimensions become rows of a matrix."""
    one, other = (
        codes.view(float8_dtype(get_element_format(fmt)))  # type: ignore[arg-type]  # why_not has seen the format
        for codes, fmt in ((x.reshape(-1, x.shape[-1]), x_fmt), (w, w_fmt))
    )
    y: Tensor = torch.ops.hpu.fp8_gemm_v2(
        one,
        False,  # noqa: FBT003  # as declared
        other,
        True,  # noqa: FBT003  # likewise
        None,
        dtype,
        _rows("x_scale", x_scale, x.shape, x_granularity, is_column=True),
        _rows("w_scale", w_scale, w.shape, w_granularity, is_column=False),
        bias,
    )
    return y.view(*x.shape[:-1], w.shape[0])


def _rows(
    name: str, scale: Tensor | None, shape: torch.Size, granularity: Granularity, *, is_column: bool
) -> Tensor | None:
    """One scale, or one for every row: [rows, 1] on the left, [rows] on the right."""
    if scale is None:
        return None
    factor = float_scale(require_scale(name, scale, shape, granularity))
    if granularity == PER_TENSOR:
        return factor.view(())
    return factor.reshape(-1, 1) if is_column else factor.reshape(-1)


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
    """Say which arguments the product can't take."""
    if order is not ScaleOrder.PRODUCT:
        return f"the scales are multiplied with each other, and the sum with that; got {order}"
    if dtype not in WIDE:
        return f"products are torch.float32 or torch.bfloat16, got {dtype}"
    one, other = get_element_format(x_fmt), get_element_format(w_fmt)
    if chip() == "gaudi2" and one.name != other.name:
        return f"gaudi2 has no product of {one.name} and {other.name}"
    for name, codes, granularity in (("x", x, x_granularity), ("w", w, w_granularity)):
        if codes.dtype is not torch.uint8:
            return f"codes of {name} must be torch.uint8, got {codes.dtype}"
        if granularity not in _SCALED_ROWS:
            return f"the product takes one scale for {name}, or one for each of its rows, not {granularity}"
    reason = why_not_format(x_fmt) or why_not_format(w_fmt)
    return reason or why_not_device(x=x, w=w, x_scale=x_scale, w_scale=w_scale, bias=bias)


KERNEL = Kernel(fn=fp8_matmul, why_not=why_not, accumulator=declared_sums)
