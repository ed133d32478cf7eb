"""`int8_matmul` by the processor's products of integers: sums of 32 bits, which are exact, and the stated roundings."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel, Prepared
from incref.formats import FORMATS, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled_matmul import apply_scales, as_rows, finish, flat_scale, require_output
from incref.ops.int8_matmul import require_codes, require_zero_point
from incref.ops.weight import Weight
from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.jit.ports import Kind, Port
from incref_kernels.cpu.launch import ELEMENTS, element, why_not_plain
from incref_kernels.cpu.processor import multiplies_int8_exactly
from incref_kernels.cpu.tiles.sums import scaled_sum_tile

__all__ = ["KERNEL", "int8_matmul"]

_SHIFT = 128
_OF_ROWS = ("zero", "x_scale")


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
    """Run `incref.ops.int8_matmul`."""
    return _multiply(
        w,
        w.sum(1, dtype=torch.int32),
        w_scale,
        w_zero_point,
        x,
        x_scale=x_scale,
        x_zero_point=x_zero_point,
        x_granularity=x_granularity,
        w_granularity=w_granularity,
        bias=bias,
        order=order,
        dtype=dtype,
    )


def _multiply(
    w: Tensor,
    w_sum: Tensor,
    w_scale: Tensor | None,
    w_zero_point: Tensor | None,
    x: Tensor,
    *,
    x_scale: Tensor | None = None,
    x_zero_point: Tensor | None = None,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Multiply; `w_sum` are the sums of the rows of `w`."""
    require_codes(x, w, x_zero_point, w_zero_point)
    require_output(dtype, bias, w.shape[0])
    left = _column("x_scale", x_scale, x, x_granularity)
    right = _column("w_scale", w_scale, w, w_granularity)
    zero = _zeros("x_zero_point", x_zero_point, x, x_granularity)
    w_zero = _zeros("w_zero_point", w_zero_point, w, w_granularity)
    flat = as_rows(x)
    if x.dtype is torch.uint8:
        flat = (flat ^ _SHIFT).view(torch.int8)
        zero = (0 if zero is None else zero) - torch.tensor([[_SHIFT]], dtype=torch.int32)
    acc = _sums(flat, w)
    shape = (*x.shape[:-1], w.shape[0])
    is_plain = x_scale is None and w_scale is None and bias is None
    if w_zero is None and not is_plain and not torch.compiler.is_compiling():
        given = {
            "zero": zero,
            "w_sum": None if zero is None else w_sum,
            "x_scale": left,
            "w_scale": right,
            "bias": None if bias is None else bias.to(torch.float32),
        }
        return _scaled(acc, given, order, dtype).view(shape)
    # Modulo 2**32, as all of these are; the result is one of int32.
    if zero is not None:
        acc = acc - zero * w_sum
    if w_zero is not None:
        rest = flat.sum(1, keepdim=True, dtype=torch.int32)
        acc = acc - (rest if zero is None else rest - zero * x.shape[-1]) * w_zero.T
    if is_plain:
        return acc.view(shape)
    value = apply_scales(acc.to(torch.float32), left, None if right is None else right.T, order)
    return finish(value, bias, dtype).view(shape)


def _scaled(acc: Tensor, given: Mapping[str, Tensor | None], order: ScaleOrder, dtype: torch.dtype) -> Tensor:
    """Make the result of sums [M, N] in one pass over memory; where it takes as many bytes, it takes theirs.

    Args:
        acc: int32, memory of nobody else.
        given: zero and x_scale, [1 or M, 1]; w_sum, w_scale and bias, one for each column; or None.
        order: where the scales enter.
        dtype: of the result.
    """
    rows, columns = acc.shape
    inputs = {name: one for name, one in given.items() if one is not None}
    kinds = {name: Kind.SCALE if name in _OF_ROWS else Kind.EVERY_ROW for name in inputs}
    kernel = TileKernel(
        body=partial(scaled_sum_tile, names=tuple(inputs), order=order, dtype=dtype),
        inputs=(element(acc.dtype), *(Port(kind=kinds[name], dtype=one.dtype) for name, one in inputs.items())),
        outputs=(element(dtype),),
        shape=ELEMENTS,
    )
    tensors = [one.flatten().expand(rows if name in _OF_ROWS else columns).contiguous() for name, one in inputs.items()]
    out = acc.view(dtype) if dtype is torch.float32 else torch.empty(acc.shape, dtype=dtype)
    kernel.launch([acc, *tensors, out], Matrices(matrices=rows, length=1, inner=columns, rows=rows))
    return out


def _sums(x: Tensor, w: Tensor) -> Tensor:
    """Sums of products, int32 [M, N].

    Of one product each, PyTorch 2.13 with oneDNN and VNNI leaves memory that nothing wrote (`torch._int_mm`): the
    strides of a transposed column don't tell its axes apart.
    """
    if x.shape[1] == 1:
        return x.to(torch.int32) * w.T.to(torch.int32)
    return torch._int_mm(x, w.T)  # noqa: SLF001  # the only name it has


def _column(name: str, scale: Tensor | None, codes: Tensor, granularity: Granularity) -> Tensor | None:
    """Scales as a column, float32 [rows, 1]."""
    found, block = flat_scale(name, scale, codes.shape, granularity)
    if block < codes.shape[-1]:
        raise ValueError(f"{name} must not differ along K, got blocks of {granularity.block_shape(codes.shape)}")
    return found


def _zeros(name: str, zero_point: Tensor | None, codes: Tensor, granularity: Granularity) -> Tensor | None:
    """Zero points as a column, int32 [rows, 1]."""
    if zero_point is None:
        return None
    require_zero_point(name, codes, zero_point)
    # Every code is a value of float32.
    column = _column(name, zero_point.to(torch.float32), codes, granularity)
    return None if column is None else column.to(torch.int32)


def prepare(weight: Weight) -> Prepared | str:
    """Keep the weight as it is, and the sums of its rows."""
    if weight.fmt != FORMATS["int8"]:
        return f"it multiplies int8, got {weight.fmt.name}"
    return Prepared(
        run=partial(_multiply, w_granularity=weight.granularity),
        tensors=(weight.words, weight.words.sum(1, dtype=torch.int32), weight.scale, weight.zero_point),
        why_not=_why_not_prepared,
    )


def _why_not_prepared(
    w: Tensor, _w_sum: Tensor, w_scale: Tensor, w_zero_point: Tensor | None, x: Tensor, **rest: object
) -> str | None:
    return why_not(x, w, w_scale=w_scale, w_zero_point=w_zero_point, **rest)  # type: ignore[arg-type]  # as the layer has them


def why_not(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None = None,
    w_scale: Tensor | None = None,
    *,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.X_THEN_W,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"x": x, "w": w, "x_scale": x_scale, "w_scale": w_scale, "bias": bias}
    reason = why_not_plain({**tensors, "x_zero_point": x_zero_point, "w_zero_point": w_zero_point})
    if reason is not None:
        return reason
    if not multiplies_int8_exactly():
        return "this processor has neither VNNI nor AMX: products of int8 are added in 16 bits, or one by one"
    if order is ScaleOrder.EXACT and any(each is not None for each in (x_scale, w_scale, bias)):
        return "scales that enter before the only rounding need the exact reference"
    if min(x.numel(), w.numel()) == 0:
        return "it takes matrices that have elements"
    return None


KERNEL = Kernel(fn=int8_matmul, why_not=why_not, prepare=prepare, is_traceable=True)
