"""What the oracle answers to products of matrices and to the update of GPTQ."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from types import MappingProxyType

import torch
from torch import Tensor

from incref.conformance.block_judge import affine_values, float_values, mx_values, spread_scales
from incref.conformance.exact_sums import exact_sums
from incref.conformance.judge import LAYOUTS, data_of, decode_tensor, values_of
from incref.conformance.matmul_judge import judged_matmul, scales_of_elements
from incref.formats import BlockFormat, IntFormat, IntRange, ScaleArithmetic, ScaleOrder, get_format
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_group
from incref.ops.encode import get_element_format
from incref.ops.quantize_mx import get_block_format
from incref.oracle.datum import Datum
from incref.oracle.gptq import update_row

__all__ = ["PRODUCT_ANSWERS"]


def _int8_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None = None,
    w_scale: Tensor | None = None,
    *,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    left, right = (
        codes.to(torch.float64) - (0 if zero is None else spread_scales(zero, codes.shape, granularity))
        for codes, zero, granularity in ((x, x_zero_point, x_granularity), (w, w_zero_point, w_granularity))
    )
    if x_scale is None and w_scale is None and bias is None:
        sums = exact_sums(left.reshape(x.shape[:-1].numel(), x.shape[-1]), right)
        whole = [int(one.value) for row in sums for one in row]
        return torch.tensor(whole, dtype=torch.int64).to(torch.int32).view(*x.shape[:-1], w.shape[0])
    return judged_matmul(
        left,
        right,
        scales_of_elements(x_scale, x.shape, x_granularity),
        scales_of_elements(w_scale, w.shape, w_granularity),
        order=order,
        stretch=x.shape[-1],
        bias=bias,
        dtype=dtype,
    )


def _weight_only_matmul(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    fmt: str,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    target, of_weight = get_format(fmt), weight_dtype or x.dtype
    if g_idx is not None:
        # Every column has the scale and the zero point of its group.
        columns = g_idx.to(torch.int64)
        scale, granularity = scale.index_select(1, columns), per_group(1)
        zero_point = None if zero_point is None else zero_point.index_select(1, columns)
    if isinstance(target, BlockFormat):
        weight = mx_values(w, scale, target, tensor_scale=tensor_scale, dtype=of_weight)
    elif isinstance(target, IntFormat):
        weight = affine_values(w, scale, zero_point, granularity, of_weight)
    else:
        weight = float_values(w, scale, target, granularity, of_weight)
    return judged_matmul(
        x.to(torch.float64),
        weight.to(torch.float64),
        None,
        None,
        order=ScaleOrder.EXACT,
        stretch=x.shape[-1],
        bias=bias,
        dtype=dtype or x.dtype,
    )


def _fp8_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str,
    w_fmt: str,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    along = [
        granularity.block_shape(codes.shape)[-1]
        for codes, scale, granularity in ((x, x_scale, x_granularity), (w, w_scale, w_granularity))
        if scale is not None
    ]
    return judged_matmul(
        decode_tensor(x, get_element_format(x_fmt), torch.float64),
        decode_tensor(w, get_element_format(w_fmt), torch.float64),
        scales_of_elements(x_scale, x.shape, x_granularity),
        scales_of_elements(w_scale, w.shape, w_granularity),
        order=order,
        stretch=min([*along, x.shape[-1]]),
        bias=bias,
        dtype=dtype,
    )


def _fp8_bmm(
    x: Tensor,
    y: Tensor,
    x_scale: Tensor | None,
    y_scale: Tensor | None,
    *,
    x_fmt: str,
    y_fmt: str,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    depth = max(x.ndim, y.ndim) - 2
    left, right = ((1,) * (depth + 2 - one.ndim) + tuple(one.shape[:-2]) for one in (x, y))
    batch = tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))
    found = torch.empty(*batch, x.shape[-2], y.shape[-1], dtype=dtype)
    for place in product(*map(range, batch)):
        found[place] = _fp8_matmul(
            _matrix(x, place),
            _matrix(y, place).T,
            x_scale,
            y_scale,
            x_fmt=x_fmt,
            w_fmt=y_fmt,
            order=order,
            dtype=dtype,
        )
    return found


def _matrix(batch: Tensor, place: tuple[int, ...]) -> Tensor:
    """The matrix that is multiplied at a place of the result; a dimension of one has the same for all."""
    sizes = batch.shape[:-2]
    at = place[len(place) - len(sizes) :]
    return batch[tuple(0 if size == 1 else one for one, size in zip(at, sizes, strict=True))]


def _fp8_conv2d(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str,
    w_fmt: str,
    w_granularity: Granularity = PER_TENSOR,  # noqa: ARG001  # one scale is that of every filter
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    values = decode_tensor(x, get_element_format(x_fmt), torch.float64)
    filters = decode_tensor(w, get_element_format(w_fmt), torch.float64).flatten(1)
    places, size = _places_of_patches(x.shape, w.shape, stride, padding, dilation)
    of_filters = None if w_scale is None else w_scale.expand(w.shape[0], 1, 1, 1).flatten(1)
    outputs = []
    for group in range(groups):
        rows = slice(group * w.shape[0] // groups, (group + 1) * w.shape[0] // groups)
        image = values[:, group * w.shape[1] : (group + 1) * w.shape[1]].flatten(1)
        # One more element for the border.
        patches = torch.cat([image, image.new_zeros(len(image), 1)], -1)[:, places]
        outputs.append(
            judged_matmul(
                patches,
                filters[rows],
                scales_of_elements(x_scale, patches.shape, PER_TENSOR),
                scales_of_elements(
                    of_filters if of_filters is None else of_filters[rows], filters[rows].shape, PER_TOKEN
                ),
                order=order,
                stretch=filters.shape[1],
                bias=None if bias is None else bias[rows],
                dtype=dtype,
            )
        )
    return torch.cat(outputs, -1).movedim(-1, 1).reshape(x.shape[0], w.shape[0], *size)


def _places_of_patches(
    image: Sequence[int],
    filters: Sequence[int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[Tensor, tuple[int, int]]:
    """Where the elements of each patch lie in the channels of a group, -1 in the border; and the result's size."""
    (height, width), (channels, *kernel) = image[2:], filters[1:]
    high, wide = (
        len(range(0, image[2 + d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1), stride[d])) for d in range(2)
    )

    def place(channel: int, row: int, column: int) -> int:
        is_inside = 0 <= row < height and 0 <= column < width
        return (channel * height + row) * width + column if is_inside else -1

    places = [
        place(c, i * stride[0] + k * dilation[0] - padding[0], j * stride[1] + m * dilation[1] - padding[1])
        for i, j, c, k, m in product(range(high), range(wide), range(channels), range(kernel[0]), range(kernel[1]))
    ]
    return torch.tensor(places, dtype=torch.int64).view(high * wide, channels * kernel[0] * kernel[1]), (high, wide)


def _mx_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    *,
    x_fmt: str,
    w_fmt: str,
    x_tensor_scale: Tensor | None = None,
    w_tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return judged_matmul(
        _block_values(x, x_scale, x_fmt),
        _block_values(w, w_scale, w_fmt),
        scales_of_elements(x_tensor_scale, x.shape, PER_TENSOR),
        scales_of_elements(w_tensor_scale, w.shape, PER_TENSOR),
        order=order,
        stretch=x.shape[-1],
        bias=bias,
        dtype=dtype,
    )


def _block_values(codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
    """Elements times the scales of their blocks, exact in float64; the scale of a tensor is no part of it."""
    target = get_block_format(fmt)
    one = torch.tensor(1.0) if target.has_tensor_scale else None
    return mx_values(codes, scale, target, tensor_scale=one, dtype=torch.float64)


def _gptq_update(
    w: Tensor,
    upper: Tensor,
    scale: Tensor,
    fmt: str,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TOKEN,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
) -> tuple[Tensor, Tensor, Tensor]:
    target = get_element_format(fmt)
    assert isinstance(target, IntFormat)
    zeros = torch.zeros_like(scale, dtype=torch.int32) if zero_point is None else zero_point
    of_columns = spread_scales(scale, w.shape, granularity)
    zeros_of_columns = spread_scales(zeros, w.shape, granularity).tolist()
    factor = [data_of(row) for row in upper]
    codes, errors, updated = list[int](), list[Datum](), list[Datum]()
    for row, scales, zeros_of_row in zip(w, of_columns, zeros_of_columns, strict=True):
        found = update_row(
            data_of(row),
            factor,
            data_of(scales),
            zeros_of_row,
            target,
            working=LAYOUTS[w.dtype],
            arithmetic=arithmetic,
            int_range=int_range,
        )
        codes, errors, updated = codes + found[0], errors + found[1], updated + found[2]
    numbers = torch.tensor(codes, dtype=torch.int64).to(code_dtype(target))
    return numbers.view(w.shape), values_of(errors, w.dtype).view(w.shape), values_of(updated, w.dtype).view(w.shape)


PRODUCT_ANSWERS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "int8_matmul": _int8_matmul,
        "weight_only_matmul": _weight_only_matmul,
        "fp8_matmul": _fp8_matmul,
        "fp8_bmm": _fp8_bmm,
        "fp8_conv2d": _fp8_conv2d,
        "mx_matmul": _mx_matmul,
        "gptq_update": _gptq_update,
    }
)
"""By name of the operation."""
