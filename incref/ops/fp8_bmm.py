"""`fp8_bmm`: products of two batches of matrices of scaled 8-bit floats, as attention has them."""

import torch
from torch import Tensor

from incref.formats import Format, ScaleOrder
from incref.ops.accumulated import ACCUMULATED, adds_exactly
from incref.ops.contract import Arg, Exactness, op
from incref.ops.fp8_matmul import fp8_matmul

__all__ = ["fp8_bmm"]


@op(
    version="1.0",
    exactness=Exactness.E2,
    tolerance=ACCUMULATED,
    looks_at_values=adds_exactly,
    args=(
        Arg(name="x", dtype="uint8", shape="..., M, K"),
        Arg(name="y", dtype="uint8", shape="..., K, N"),
        Arg(name="x_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape=""),
        Arg(name="y_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape=""),
    ),
    results=(Arg(name="z", dtype="dtype", shape="..., M, N"),),
)
def fp8_bmm(
    x: Tensor,
    y: Tensor,
    x_scale: Tensor | None,
    y_scale: Tensor | None,
    *,
    x_fmt: str | Format,
    y_fmt: str | Format,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Multiply batches of matrices of scaled float codes: `(decode(x) * x_scale) @ (decode(y) * y_scale)`.

    Each matrix of the result is the `fp8_matmul` of one of `x` and the transpose of one of `y`.

    Args:
        x: codes of `x_fmt` [..., M, K].
        y: codes of `y_fmt` [..., K, N]; the dimensions before the last two broadcast to each other.
        x_scale: what the values of `x` are multiplied with, (); None is 1.
        y_scale: likewise for `y`.
        x_fmt: a float format of at most 8 bits, or a codebook, or its name.
        y_fmt: likewise.
        order: where the scales enter; `y` is what `ScaleOrder` calls w.
        dtype: of the result: float32, bfloat16 or float16.

    Returns:
        [..., M, N], with the roundings of `fp8_matmul`.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, or a wrong shape.
        FlushDenormalError: if the processor flushes subnormals.

    >>> x = torch.tensor([[[56, 64]], [[64, 64]]], dtype=torch.uint8)
    >>> fp8_bmm(x, x.mT, torch.tensor(0.5), None, x_fmt="e4m3fn", y_fmt="e4m3fn").flatten()
    tensor([2.5000, 4.0000])
    """
    if min(x.ndim, y.ndim) < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError(f"x must be [..., M, K] and y [..., K, N], got {tuple(x.shape)} and {tuple(y.shape)}")
    for name, scale in (("x_scale", x_scale), ("y_scale", y_scale)):
        if scale is not None and scale.shape != ():
            raise ValueError(f"{name} must be one scale, of the shape (), got {tuple(scale.shape)}")
    try:
        batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except RuntimeError as error:
        raise ValueError(
            f"the batches of x and y must broadcast, got {tuple(x.shape[:-2])} and {tuple(y.shape[:-2])}"
        ) from error
    lefts, rights = (one.expand(*batch, *one.shape[-2:]).reshape(batch.numel(), *one.shape[-2:]) for one in (x, y.mT))
    z = torch.empty(batch.numel(), x.shape[-2], y.shape[-1], dtype=dtype, device=x.device)
    for place in range(batch.numel()):
        z[place] = fp8_matmul(
            lefts[place],
            rights[place],
            x_scale,
            y_scale,
            x_fmt=x_fmt,
            w_fmt=y_fmt,
            order=order,
            dtype=dtype,
        )
    return z.view(*batch, *z.shape[1:])
