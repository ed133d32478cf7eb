"""Products of quantized inputs and weights as products of their integers."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.formats import IntFormat, ScaleOrder
from incref.modules.geometry import Geometry, border
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel
from incref.ops.int8_matmul import int8_matmul
from incref.qtensor.parts import Parts
from incref.qtensor.spec import QuantSpec

__all__ = ["as_int8", "integer_conv2d", "integer_linear", "multiplies_integers"]

_SHIFT = 128


def multiplies_integers(weight: QuantSpec, activation: QuantSpec | None, ndim: int = 2) -> bool:
    """Whether a layer multiplies integers: both are, with scales that don't differ along what is summed over.

    Args:
        weight: how the weight is quantized.
        activation: how the input is.
        ndim: dimensions of the weight.
    """
    if activation is None or not all(isinstance(spec.fmt, IntFormat) for spec in (weight, activation)):
        return False
    rows = (PER_TENSOR, PER_TOKEN) if ndim == 2 else (PER_TENSOR,)
    return weight.granularity in (PER_TENSOR, per_channel(0, ndim=ndim)) and activation.granularity in rows


def integer_linear(
    x: Parts,
    w: Parts,
    *,
    x_granularity: Granularity,
    bias: Tensor | None,
    dtype: torch.dtype,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    matmul: Callable[..., Tensor] = int8_matmul,
) -> Tensor:
    """Compute `int8_matmul(x, w) + bias`, with its roundings.

    Args:
        x: codes of 8 bits or fewer [..., K], with one scale, or one for each row.
        w: codes of 8 bits or fewer [N, ...], of which K are in a row, with one scale, or one for each row.
        x_granularity: PER_TENSOR or PER_TOKEN.
        bias: [N], or None.
        dtype: of the result.
        order: where scales enter.
        matmul: the operation, or a kernel for it.

    Returns:
        [..., N].
    """
    w = as_int8(w)
    is_per_row = w.scale.ndim > 0
    return matmul(
        x.codes,
        w.codes,
        x.scale,
        w.scale,
        x_zero_point=x.zero_point,
        w_zero_point=w.zero_point,
        x_granularity=x_granularity,
        w_granularity=PER_TOKEN if is_per_row else PER_TENSOR,
        bias=bias,
        dtype=dtype,
        order=order,
    )


def integer_conv2d(
    x: Parts,
    w: Parts,
    bias: Tensor | None,
    kernel_size: tuple[int, ...],
    geometry: Geometry,
    *,
    dtype: torch.dtype,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    matmul: Callable[..., Tensor] = int8_matmul,
) -> Tensor:
    """Convolve as `integer_linear` multiplies: each output is the product of the patch under the kernel.

    Args:
        x: codes [B, C, H, W] or [C, H, W], with one scale. What is added at the border has the code of zero.
        w: codes [N, C / groups * kh * kw], in any shape, with one scale, or one for each index of N.
        bias: [N], or None.
        kernel_size: (kh, kw).
        geometry: where the convolution looks.
        dtype: of the result.
        order: where scales enter.
        matmul: as in `integer_linear`.

    Returns:
        [B, N, H', W'] or [N, H', W'].
    """
    g = geometry
    # F.pad and F.unfold move values, and every code is one of float32.
    values = (x.codes if x.codes.ndim == 4 else x.codes[None]).to(torch.float32)
    zero = 0.0 if x.zero_point is None or g.padding_mode != "zeros" else float(x.zero_point)
    padded = F.pad(values, border(kernel_size, g), mode=g.pad_mode, value=zero)
    patches = F.unfold(padded, kernel_size, g.dilation, 0, g.stride).mT.to(x.codes.dtype)  # [B, places, C * kh * kw]
    biases = [None] * g.groups if bias is None else bias.chunk(g.groups)
    outputs = [
        integer_linear(
            Parts(codes=part, scale=x.scale, zero_point=x.zero_point),
            rows,
            x_granularity=PER_TENSOR,
            bias=one_bias,
            dtype=dtype,
            order=order,
            matmul=matmul,
        )
        for part, rows, one_bias in zip(patches.chunk(g.groups, -1), _chunks(w, g.groups), biases, strict=True)
    ]
    sizes = [(padded.shape[2 + d] - g.dilation[d] * (kernel_size[d] - 1) - 1) // g.stride[d] + 1 for d in range(2)]
    y: Tensor = torch.cat(outputs, -1).mT.unflatten(-1, sizes)
    return y if x.codes.ndim == 4 else y[0]


def _chunks(w: Parts, groups: int) -> list[Parts]:
    scales = w.scale.chunk(groups) if w.scale.ndim else [w.scale] * groups
    zero_points: list[Tensor | None] = [w.zero_point] * groups
    if w.zero_point is not None and w.zero_point.ndim:
        zero_points = list(w.zero_point.chunk(groups))
    rows = zip(w.codes.chunk(groups), scales, zero_points, strict=True)
    return [Parts(codes=codes, scale=scale, zero_point=zero) for codes, scale, zero in rows]


def as_int8(w: Parts) -> Parts:
    """Give a weight as a matrix of int8 codes: unsigned ones, and the zero points that they have, less 128.

    Args:
        w: codes of 8 bits or fewer [N, ...], with one scale, or one for each index of N.

    Returns:
        Codes [N, K], with scales and zero points () or [N, 1].
    """
    zero_point, is_per_row = w.zero_point, w.scale.ndim > 0
    codes = w.codes.flatten(1)
    if codes.dtype is not torch.int8:
        assert zero_point is not None
        codes, zero_point = (codes.to(torch.int16) - _SHIFT).to(torch.int8), zero_point - _SHIFT
    if not is_per_row:
        return Parts(codes=codes, scale=w.scale, zero_point=zero_point)
    return Parts(
        codes=codes, scale=w.scale.flatten(1), zero_point=None if zero_point is None else zero_point.flatten(1)
    )
