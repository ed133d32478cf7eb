"""`fp8_matmul`: one product that is scaled in its epilogue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from incref.backends.backend import Kernel, Prepared
from incref.formats import Format, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel
from incref.numerics.scaled import require_scale
from incref.numerics.scaled_matmul import as_rows
from incref.ops.weight import Weight
from incref_kernels.hpu.available import declared_sums, mode, why_not_device
from incref_kernels.hpu.casts import WIDE, as_float8, why_not_factors
from incref_kernels.hpu.scales import as_number, float_scale
from incref_kernels.hpu.simulator.options import Mode

__all__ = ["KERNEL", "fp8_matmul"]

_SCALED_ROWS = (PER_TENSOR, PER_TOKEN, per_channel())


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Scales that stay, as numbers: compilers of graphs fold those into the product if the hardware is aligned to them.

    Attributes:
        x: the one of all of x.
        w: the one of all of w, or those of its rows.
    """

    x: float
    w: float | tuple[float, ...]


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
    constants: Constants | None = None,
) -> Tensor:
    """Run `incref.ops.fp8_matmul` by `fp8_gemm_v2`; codes that have more dimensions become rows of a matrix.

    The vendor's tests leave powers of two as numbers out where operators run eagerly, so constants are tensors there.
    """
    head = (as_float8(as_rows(x), x_fmt), False, as_float8(w, w_fmt), True, None, dtype)
    if constants is None or mode() is Mode.EAGER:
        left = _rows("x_scale", x_scale, x.shape, x_granularity, is_column=True)
        right = _rows("w_scale", w_scale, w.shape, w_granularity, is_column=False)
        y: Tensor = torch.ops.hpu.fp8_gemm_v2(*head, left, right, bias)
    elif isinstance(constants.w, float):
        y = torch.ops.hpu.fp8_gemm_v2.scalar(*head, constants.x, constants.w, bias)
    else:
        y = torch.ops.hpu.fp8_gemm_v2.scalar_list(
            *head,
            [constants.x],
            list(constants.w),
            bias,
            False,  # noqa: FBT003  # as declared
            [1, len(constants.w)],
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
    for name, granularity in (("x", x_granularity), ("w", w_granularity)):
        if granularity not in _SCALED_ROWS:
            return f"the product takes one scale for {name}, or one for each of its rows, not {granularity}"
    reason = why_not_factors(("x", x, x_fmt), ("w", w, w_fmt))
    return reason or why_not_device(x=x, w=w, x_scale=x_scale, w_scale=w_scale, bias=bias)


def prepare(weight: Weight) -> Prepared:
    """Take a weight as it is; with a scale of all inputs, its own scales become numbers, too."""
    options = {"w_fmt": weight.fmt, "w_granularity": weight.granularity}
    prepared = Prepared(
        run=partial(_call, fp8_matmul, options),
        tensors=(weight.codes(), weight.scale),
        why_not=partial(_call, why_not, options),
    )
    return replace(prepared, with_scale=partial(_with_scale, prepared, weight))


def _with_scale(prepared: Prepared, weight: Weight, x_scale: Tensor) -> Prepared:
    if weight.granularity not in _SCALED_ROWS or "meta" in (weight.scale.device.type, x_scale.device.type):
        return prepared
    scales = float_scale(require_scale("w_scale", weight.scale, torch.Size(weight.shape), weight.granularity))
    w = scales.item() if weight.granularity == PER_TENSOR else tuple(scales.flatten().tolist())
    options = {"w_fmt": weight.fmt, "w_granularity": weight.granularity}
    constants = Constants(x=as_number(x_scale), w=w)
    return replace(prepared, run=partial(_call, partial(fp8_matmul, constants=constants), options))


def _call(fn: Callable[..., Any], options: Mapping[str, object], *tensors: Tensor | None, **rest: Any) -> Any:  # noqa: ANN401
    """Call with the tensors of a weight and x, the last of them."""
    w, w_scale, x = tensors
    return fn(x, w, w_scale=w_scale, **options, **rest)


KERNEL = Kernel(fn=fp8_matmul, why_not=why_not, prepare=prepare, accumulator=declared_sums)
