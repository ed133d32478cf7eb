"""Operators that stand in captured graphs: exact products of integers, and copies that nothing writes through."""

import torch
from torch import Tensor

from incref.formats import ScaleOrder
from incref.modules.geometry import Geometry
from incref.modules.integer import integer_conv2d, integer_linear
from incref.numerics.granularity import PER_TENSOR
from incref.qtensor.parts import Parts

__all__ = ["OPERATORS"]

OPERATORS = torch.ops.incref
"""Where the operators below are: `OPERATORS.fresh.default`, ..."""


@torch.library.custom_op("incref::fresh", mutates_args=())
def fresh(x: Tensor, beside: Tensor) -> Tensor:
    """Copy x to memory of its own; a compiler sees no more than that.

    `beside` is not read. It is there so that a copy of a constant is not computed once and kept as another one.
    """
    del beside
    return x.clone()


@torch.library.custom_op("incref::int8_linear", mutates_args=())
def int8_linear(  # noqa: PLR0917  # an operator's arguments
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    bias: Tensor | None,
    order: str,
    dtype: torch.dtype,
) -> Tensor:
    """Compute `int8_matmul(x, w, ...)`, `order` being the value of a `ScaleOrder`; `w_scale` is [N]."""
    return integer_linear(
        _parts_of_input(x, x_scale, x_zero_point),
        _parts_of_weight(w, w_scale),
        x_granularity=PER_TENSOR,
        bias=bias,
        dtype=dtype,
        order=ScaleOrder(order),
    )


@torch.library.custom_op("incref::int8_conv2d", mutates_args=())
def int8_conv2d(  # noqa: PLR0917  # likewise
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    order: str,
    dtype: torch.dtype,
) -> Tensor:
    """Convolve as `int8_linear` multiplies."""
    geometry = Geometry(
        stride=(stride[0], stride[-1]),
        padding=(padding[0], padding[-1]),
        dilation=(dilation[0], dilation[-1]),
        groups=groups,
    )
    result = integer_conv2d(
        _parts_of_input(x, x_scale, x_zero_point),
        _parts_of_weight(w, w_scale),
        bias,
        tuple(w.shape[2:]),
        geometry,
        dtype=dtype,
        order=ScaleOrder(order),
    )
    # What an operator returns may not be a view of something else.
    return result.contiguous()


def _parts_of_input(codes: Tensor, scale: Tensor, zero_point: Tensor) -> Parts:
    return Parts(
        codes=codes,
        scale=scale.reshape(()).to(torch.float32),
        zero_point=zero_point.reshape(()).to(torch.int32),
    )


def _parts_of_weight(codes: Tensor, scale: Tensor) -> Parts:
    return Parts(codes=codes, scale=scale.to(torch.float32).view(-1, *[1] * (codes.ndim - 1)))


@fresh.register_fake
def _(x: Tensor, beside: Tensor) -> Tensor:
    del beside
    return torch.empty_like(x)


@int8_linear.register_fake
def _(x: Tensor, x_scale: Tensor, x_zero_point: Tensor, w: Tensor, *rest: object) -> Tensor:
    del x_scale, x_zero_point
    return x.new_empty((*x.shape[:-1], w.shape[0]), dtype=_dtype(rest))


@int8_conv2d.register_fake
def _(x: Tensor, x_scale: Tensor, x_zero_point: Tensor, w: Tensor, *rest: object) -> Tensor:
    del x_scale, x_zero_point
    stride, padding, dilation = (value if isinstance(value, list) else [] for value in rest[2:5])
    sizes = [
        (x.shape[2 + d] + 2 * padding[d] - dilation[d] * (w.shape[2 + d] - 1) - 1) // stride[d] + 1 for d in range(2)
    ]
    return x.new_empty((x.shape[0], w.shape[0], *sizes), dtype=_dtype(rest))


def _dtype(arguments: tuple[object, ...]) -> torch.dtype:
    dtype = arguments[-1]
    assert isinstance(dtype, torch.dtype)
    return dtype
