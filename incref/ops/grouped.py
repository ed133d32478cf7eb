"""Products for mixtures of experts: rows of `x` sorted by expert, each group multiplied by its own weight."""

import inspect
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from incref.ops.contract import Op

__all__ = ["grouped", "require_ends"]

# Parameters of matrix products that each expert has of its own, and those of which each row of `x` has one.
_OF_EXPERT = ("w", "w_scale", "scale", "zero_point", "tensor_scale", "w_tensor_scale", "bias")
_OF_ROW = ("x", "x_scale")


def require_ends(ends: Tensor, x: Tensor, w: Tensor) -> None:
    """Check that rows of `x` [T, K] are divided among the weights `w` [E, N, ...], without looking at values.

    Raises:
        TypeError: if `ends` is not int32.
        ValueError: for another shape.
    """
    if ends.dtype is not torch.int32:
        raise TypeError(f"ends must be torch.int32, got {ends.dtype}")
    if x.ndim != 2 or w.ndim != 3 or ends.ndim != 1 or ends.shape[0] != w.shape[0] or w.shape[0] == 0:
        raise ValueError(
            "x must be [T, K], w [E, N, K] and ends [E], with E of 1 or more, got "
            f"{tuple(x.shape)}, {tuple(w.shape)} and {tuple(ends.shape)}"
        )


def grouped(product: Op[..., Tensor], ends: Tensor, *args: object, **options: object) -> Tensor:
    """Multiply the rows of each expert by its weight, as `product` does.

    Args:
        product: `fp8_matmul`, `weight_only_matmul`, `mx_matmul` or `int8_matmul`.
        ends: int32 [E], ascending: one past the last row of each expert; an expert without rows ends where it begins.
        args: of `product`, but that `w`, its scales and zero points, scales of its tensors and the bias have a first
            dimension E, and `x` is [T, K]; scales of `x` are those of rows, or one of all.
        options: likewise.

    Returns:
        [T, N]; rows `ends[e - 1]` to `ends[e]` are `product` of these rows and what expert `e` has. Rows beyond the
        last end are no expert's, and 0.

    Raises:
        TypeError: if `ends` is not int32.
        ValueError: if `ends` descends or is beyond T, or something has another shape; and what `product` raises.

    >>> from incref.ops import weight_only_matmul
    >>> x, w = torch.ones(3, 2), torch.tensor([[[1, 1]], [[2, 2]]], dtype=torch.int8)
    >>> ends, scale = torch.tensor([2, 3], dtype=torch.int32), torch.ones(2)
    >>> grouped(weight_only_matmul, ends, x, w, scale, "int8").T
    tensor([[2., 2., 4.]])
    """
    given = inspect.signature(product.reference).bind(*args, **options).arguments
    x, w = given["x"], given["w"]
    require_ends(ends, x, w)
    bounds = [0, *ends.tolist()]
    if bounds != sorted(bounds) or bounds[-1] > x.shape[0]:
        raise ValueError(f"ends must ascend, up to {x.shape[0]} rows, got {bounds[1:]}")
    run: Callable[..., Tensor] = product.reference
    parts = [
        run(**{name: _of(name, value, expert, slice(first, last)) for name, value in given.items()})
        for expert, (first, last) in enumerate(pairwise(bounds))
    ]
    rest = parts[0].new_zeros(x.shape[0] - bounds[-1], parts[0].shape[1])
    return torch.cat([*parts, rest])


def _of(name: str, value: object, expert: int, rows: slice) -> object:
    """What an expert has of an argument."""
    if isinstance(value, Tensor) and name in _OF_EXPERT:
        return value[expert]
    if isinstance(value, Tensor) and name in _OF_ROW and value.ndim:
        return value[rows]
    return value
