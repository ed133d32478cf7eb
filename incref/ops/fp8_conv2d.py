"""`fp8_conv2d`: convolutions of scaled 8-bit floats."""

import torch
from torch import Tensor

from incref.formats import FloatFormat, Format, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel
from incref.numerics.patches import Pair, output_size, patches_of
from incref.ops.accumulated import ACCUMULATED, adds_exactly
from incref.ops.contract import Arg, Exactness, op
from incref.ops.fp8_matmul import fp8_matmul
from incref.ops.quantize_float import get_float_format

__all__ = ["PER_FILTER", "fp8_conv2d"]

PER_FILTER = per_channel(0, ndim=4)
"""One scale for each filter."""


@op(
    version="1.0",
    exactness=Exactness.E2,
    tolerance=ACCUMULATED,
    looks_at_values=adds_exactly,
    args=(
        Arg(name="x", dtype="uint8", shape="B, C, H, W"),
        Arg(name="w", dtype="uint8", shape="N, C / groups, kh, kw"),
        Arg(name="x_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape=""),
        Arg(name="w_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape=" or N, 1, 1, 1"),
        Arg(name="bias", dtype="float32, bfloat16 or float16, or None", shape="N"),
    ),
    results=(Arg(name="y", dtype="dtype", shape="B, N, H', W'"),),
)
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
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Convolve scaled float codes: each element of the result is the `fp8_matmul` of a patch and a filter.

    Args:
        x: codes of `x_fmt` [B, C, H, W].
        w: codes of `w_fmt` [N, C / groups, kh, kw].
        x_scale: what the values of `x` are multiplied with, (); None is 1.
        w_scale: likewise for `w`: (), or for PER_FILTER [N, 1, 1, 1].
        x_fmt: a float format of at most 8 bits, or its name.
        w_fmt: likewise.
        w_granularity: which elements of `w` share a scale: all (PER_TENSOR), or filters (PER_FILTER).
        stride: of the filters, in both dimensions.
        padding: how many zeros are added on either side; they are values as others, so `0 * Inf` is NaN.
        dilation: distance of the elements of a patch.
        groups: parts of C and N that are convolved each by itself.
        bias: [N].
        order: where the scales enter.
        dtype: of the result: float32, bfloat16 or float16.

    Returns:
        [B, N, H', W'], with the roundings of `fp8_matmul`.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, a wrong shape or granularity, or filters that are larger than the image.
        FlushDenormalError: if the processor flushes subnormals.

    >>> x = torch.full((1, 1, 2, 2), 56, dtype=torch.uint8)
    >>> fp8_conv2d(x, x, torch.tensor(0.5), None, x_fmt="e4m3fn", w_fmt="e4m3fn").item()
    2.0
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(
            f"x must be [B, C, H, W] and w [N, C / groups, kh, kw] with N a multiple of {groups} groups, "
            f"got {tuple(x.shape)} and {tuple(w.shape)}"
        )
    if w_granularity not in (PER_TENSOR, PER_FILTER):
        raise ValueError(f"a filter has one scale: w_granularity must be PER_TENSOR or PER_FILTER, got {w_granularity}")
    for fmt in (x_fmt, w_fmt):
        found = get_float_format(fmt)
        if not isinstance(found, FloatFormat) or not found.has_zero:
            reason = f"the border of an image needs a zero whose code is 0, which {found.name} hasn't"
            raise ValueError(reason)
    kernel = (w.shape[2], w.shape[3])
    size = output_size(x.shape[2:], kernel, stride, padding, dilation)
    patches = patches_of(x, kernel, stride=stride, padding=padding, dilation=dilation)
    is_per_filter = w_granularity == PER_FILTER
    if is_per_filter and w_scale is not None and w_scale.shape != (w.shape[0], 1, 1, 1):
        raise ValueError(f"w_scale must have the shape {(w.shape[0], 1, 1, 1)}, got {tuple(w_scale.shape)}")
    scales = [w_scale] * groups if w_scale is None or not is_per_filter else w_scale.flatten(1).chunk(groups)
    outputs = [
        fp8_matmul(
            part,
            filters,
            x_scale,
            scale,
            x_fmt=x_fmt,
            w_fmt=w_fmt,
            w_granularity=PER_TOKEN if is_per_filter else PER_TENSOR,
            bias=one_bias,
            order=order,
            dtype=dtype,
        )
        for part, filters, scale, one_bias in zip(
            patches.chunk(groups, -1),
            w.flatten(1).chunk(groups),
            scales,
            [None] * groups if bias is None else bias.chunk(groups),
            strict=True,
        )
    ]
    y: Tensor = torch.cat(outputs, -1).mT.unflatten(-1, size)
    return y.contiguous()
