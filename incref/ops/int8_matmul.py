"""`int8_matmul`: products of 8-bit integers, exact, and their scales."""

import torch
from torch import Tensor

from incref.formats import FORMATS, IntFormat, ScaleOrder
from incref.numerics.checks import is_eager, require_subnormals
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.integer_matmul import integer_matmul
from incref.numerics.scaled_matmul import (
    Factor,
    apply_scales,
    as_rows,
    finish,
    flat_scale,
    require_matrices,
    require_output,
    scaled_matmul,
)
from incref.ops.contract import Arg, Exactness, op

__all__ = ["int8_matmul", "require_codes", "require_zero_point"]

_FORMATS = {torch.int8: "int8", torch.uint8: "uint8"}
_LARGEST_SUM = torch.iinfo(torch.int32).max


def _adds_exactly(*_: object, order: ScaleOrder = ScaleOrder.X_THEN_W, **__: object) -> bool:
    """Whether floats are added exactly, for which the reference looks at values."""
    return order is ScaleOrder.EXACT


@op(
    version="1.1",
    exactness=Exactness.E0,
    looks_at_values=_adds_exactly,
    args=(
        Arg(name="x", dtype="int8 or uint8", shape="..., K"),
        Arg(name="w", dtype="int8", shape="N, K"),
        Arg(name="x_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape="..., 1"),
        Arg(name="w_scale", dtype="float32, bfloat16, float16 or uint8 (E8M0), or None", shape="N, 1"),
        Arg(name="x_zero_point", dtype="int32, or None", shape="that of x_scale"),
        Arg(name="w_zero_point", dtype="int32, or None", shape="that of w_scale"),
        Arg(name="bias", dtype="float32, bfloat16 or float16, or None", shape="N"),
    ),
    results=(Arg(name="y", dtype="int32 without scales and bias, else dtype", shape="..., N"),),
)
def int8_matmul(
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
    """Multiply integer codes, `acc = (x - x_zero_point) @ (w - w_zero_point).T`, and scale the result.

    Args:
        x: int8 or uint8 codes [..., K].
        w: int8 codes [N, K].
        x_scale: of `x`, one for all or one a row.
        w_scale: of `w`, one for all or one a row.
        x_zero_point: int32, the code of zero in `x`, in the shape of its scale; None is 0.
        w_zero_point: likewise of `w`.
        x_granularity: PER_TENSOR or PER_TOKEN.
        w_granularity: PER_TENSOR or PER_TOKEN, which is a scale for each output channel.
        bias: [N], added to the scaled result.
        order: where the scales enter.
        dtype: of the result, if it has scales or a bias: float32, bfloat16 or float16.

    Returns:
        Without scales and bias `acc`, int32 [..., N], exact. With them the roundings that `order` says: by default
        `acc` to float32, times `x_scale`, times `w_scale`, plus `bias`, and that to `dtype`, each to nearest even.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape; for scales that differ along K; for a zero point that is no code of its matrix;
            for a K so large that `acc` might leave int32. Kernels wrap there, or saturate: the result is not defined.
        FlushDenormalError: for scales or a bias, if the processor flushes subnormals.

    >>> x = torch.tensor([[1, -2], [127, 127]], dtype=torch.int8)
    >>> int8_matmul(x, x)
    tensor([[    5,  -127],
            [ -127, 32258]], dtype=torch.int32)
    """
    require_codes(x, w, x_zero_point, w_zero_point)
    require_output(dtype, bias, w.shape[0])
    shape = (*x.shape[:-1], w.shape[0])
    flat = as_rows(x)
    zero = _zero_points("x", x, x_zero_point, x_granularity)
    w_zero = _zero_points("w", w, w_zero_point, w_granularity)
    if x_scale is None and w_scale is None and bias is None:
        return _exact_sums(flat, w, zero, w_zero).to(torch.int32).view(shape)
    require_subnormals("int8_matmul")
    left = _row_scale("x_scale", x_scale, x, x_granularity)
    right = _row_scale("w_scale", w_scale, w, w_granularity)
    if order is ScaleOrder.EXACT:
        values = flat.to(torch.float64) - (0 if zero is None else zero)
        one = Factor(values=values, scale=left, block=max(x.shape[-1], 1))
        weights = w.to(torch.float64) - (0 if w_zero is None else w_zero)
        other = Factor(values=weights, scale=right, block=max(x.shape[-1], 1))
        return scaled_matmul(one, other, order=order, bias=bias, dtype=dtype).view(shape)
    acc = _exact_sums(flat, w, zero, w_zero).to(torch.float32)
    value = apply_scales(acc, left, None if right is None else right.T, order)
    return finish(value, bias, dtype).view(shape)


def _exact_sums(x: Tensor, w: Tensor, zero: Tensor | None, w_zero: Tensor | None) -> Tensor:
    """`(x - zero) @ (w - w_zero).T`, int64."""
    acc = integer_matmul(x, w)
    if zero is not None:
        acc = acc - zero * w.sum(1, dtype=torch.int64)
    if w_zero is not None:
        rest = x.sum(1, keepdim=True, dtype=torch.int64) - (0 if zero is None else zero * x.shape[1])
        acc = acc - rest * w_zero.T
    return acc


def require_codes(x: Tensor, w: Tensor, x_zero_point: Tensor | None, w_zero_point: Tensor | None) -> None:
    """Check that there are codes to multiply, and that no sum leaves int32.

    Raises:
        TypeError: for another dtype.
        ValueError: for a wrong shape, or too large a K.
    """
    if x.dtype not in _FORMATS or w.dtype is not torch.int8:
        raise TypeError(f"x must be torch.int8 or torch.uint8 and w torch.int8, got {x.dtype} and {w.dtype}")
    require_matrices(x, w)
    most = _LARGEST_SUM // (_largest(x, x_zero_point) * _largest(w, w_zero_point))
    if w.shape[1] > most:
        raise ValueError(f"K must be at most {most}, so that no sum leaves int32, got {w.shape[1]}")


def _largest(codes: Tensor, zero_point: Tensor | None) -> int:
    """The largest magnitude of a code less its zero point."""
    fmt = FORMATS[_FORMATS[codes.dtype]]
    assert isinstance(fmt, IntFormat)
    return max(fmt.max_code, -fmt.min_code) if zero_point is None else fmt.num_codes - 1


def _zero_points(name: str, x: Tensor, zero_point: Tensor | None, granularity: Granularity) -> Tensor | None:
    """Zero points of the matrix called `name` as a column, int64 [rows, 1]."""
    if zero_point is None:
        return None
    name = f"{name}_zero_point"
    require_zero_point(name, x, zero_point)
    # Every code is a value of float32.
    column = _row_scale(name, zero_point.to(torch.float32), x, granularity)
    return None if column is None else column.to(torch.int64)


def require_zero_point(name: str, x: Tensor, zero_point: Tensor) -> None:
    """Check that a zero point is a code of its matrix; while a graph is built its values are not looked at.

    Raises:
        TypeError: for another dtype.
        ValueError: if it is none.
    """
    if zero_point.dtype is not torch.int32:
        raise TypeError(f"{name} must be torch.int32, got {zero_point.dtype}")
    info = torch.iinfo(x.dtype)
    if is_eager() and ((zero_point < info.min) | (zero_point > info.max)).any():
        low, high = zero_point.aminmax()
        raise ValueError(f"{name} must be a code of {name[0]}, {info.min} to {info.max}, got {int(low)} to {int(high)}")


def _row_scale(name: str, scale: Tensor | None, x: Tensor, granularity: Granularity) -> Tensor | None:
    """Scales as a column, float32 [rows, 1]."""
    found, block = flat_scale(name, scale, x.shape, granularity)
    if block < x.shape[-1]:
        raise ValueError(f"{name} must not differ along K, got blocks of {granularity.block_shape(x.shape)}")
    return found
