"""`mx_matmul`: products of blocks that share scales."""

import torch
from torch import Tensor

from incref.formats import Format, ScaleOrder
from incref.numerics.checks import require_subnormals
from incref.numerics.scaled_matmul import Factor, as_rows, require_matrices, require_output, scaled_matmul
from incref.ops.accumulated import ACCUMULATED, adds_exactly
from incref.ops.contract import Arg, Exactness, op
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.quantize_mx import get_block_format

__all__ = ["mx_matmul"]


@op(
    version="1.0",
    exactness=Exactness.E2,
    tolerance=ACCUMULATED,
    looks_at_values=adds_exactly,
    args=(
        Arg(name="x", dtype="uint8, or int8 for MXINT8", shape="..., K"),
        Arg(name="w", dtype="uint8, or int8 for MXINT8", shape="N, K"),
        Arg(name="x_scale", dtype="uint8, codes of the scale format", shape="..., ceil(K / block_size)"),
        Arg(name="w_scale", dtype="uint8, codes of the scale format", shape="N, ceil(K / block_size)"),
        Arg(name="x_tensor_scale", dtype="float32; NVFP4 only", shape="()"),
        Arg(name="w_tensor_scale", dtype="float32; NVFP4 only", shape="()"),
        Arg(name="bias", dtype="float32, bfloat16 or float16, or None", shape="N"),
    ),
    results=(Arg(name="y", dtype="dtype", shape="..., N"),),
)
def mx_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_tensor_scale: Tensor | None = None,
    w_tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Multiply blocks along K: `dequantize_mx(x, ...) @ dequantize_mx(w, ...).T + bias`.

    Args:
        x: element codes of `x_fmt` [..., K].
        w: element codes of `w_fmt` [N, K].
        x_scale: scale codes, one for each block of `x` along K.
        w_scale: likewise for `w`.
        x_fmt: a block format, or its name.
        w_fmt: another, or the same; blocks of different sizes may meet.
        x_tensor_scale: NVFP4 only: the scale of `x`.
        w_tensor_scale: NVFP4 only: the scale of `w`.
        bias: [N].
        order: where the scales of tensors enter. Those of blocks are always part of the exact products.
        dtype: of the result: float32, bfloat16 or float16.

    Returns:
        [..., N]. Products of elements and block scales, and their sum, are exact. Without scales of tensors and bias
        the sum is rounded once, to `dtype`; else the roundings are those that `order` says. A NaN, of an element or of
        a scale, makes its whole row or column NaN; `0 * Inf` and infinities of both signs make NaN; a finite sum beyond
        float32 becomes Inf; one that is exactly 0 is +0.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, a wrong shape, or a scale of a tensor that is missing or not asked for.
        FlushDenormalError: if the processor flushes subnormals.

    Source: OCP MX 1.0, 6.2 (DotGeneral).

    >>> codes, scale = torch.tensor([[2, 12, 7]], dtype=torch.uint8), torch.tensor([[126]], dtype=torch.uint8)
    >>> mx_matmul(codes, codes, scale, scale, x_fmt="mxfp4", w_fmt="mxfp4")
    tensor([[10.2500]])
    """
    require_matrices(x, w)
    require_output(dtype, bias, w.shape[0])
    require_subnormals("mx_matmul")
    left = _factor("x", x, x_scale, x_fmt, x_tensor_scale)
    right = _factor("w", w, w_scale, w_fmt, w_tensor_scale)
    out = scaled_matmul(left, right, order=order, bias=bias, dtype=dtype)
    return out.view(*x.shape[:-1], w.shape[0])


def _factor(name: str, codes: Tensor, scale: Tensor, fmt: str | Format, tensor_scale: Tensor | None) -> Factor:
    source = get_block_format(fmt)
    if source.has_tensor_scale != (tensor_scale is not None):
        raise ValueError(f"{source.name} {'needs a' if source.has_tensor_scale else 'has no'} {name}_tensor_scale")
    column = None
    if tensor_scale is not None:
        if tensor_scale.dtype is not torch.float32 or tensor_scale.shape != ():
            raise ValueError(
                f"{name}_tensor_scale must be torch.float32 of shape (), got {tensor_scale.dtype} of "
                f"{tuple(tensor_scale.shape)}"
            )
        column = tensor_scale.view(1, 1).expand(codes.shape[:-1].numel(), 1)
    # Without the scale of the tensor the values are exact in float64.
    one = None if tensor_scale is None else torch.ones_like(tensor_scale)
    values = dequantize_mx(codes, scale, source, tensor_scale=one, dtype=torch.float64)
    return Factor(values=as_rows(values), scale=column, block=max(codes.shape[-1], 1))
