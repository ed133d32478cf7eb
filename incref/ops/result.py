"""Results that are written to memory that the caller has."""

import torch
from torch import Tensor

from incref.numerics.checks import is_eager

__all__ = ["require_out"]


def require_out(out: Tensor | None, x: Tensor) -> Tensor:
    """Check the memory for a result like `x`, or make it.

    Args:
        out: a tensor of the shape, dtype and device of `x`: `x` itself, or one that shares no memory with it; or None.
        x: what is converted.

    Raises:
        TypeError: if it has another dtype.
        ValueError: if it has another shape or device, or shares memory with `x` without being it.
    """
    if out is None:
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if out.dtype is not x.dtype:
        raise TypeError(f"out must have the dtype of x, {x.dtype}, got {out.dtype}")
    if out.shape != x.shape or out.device != x.device:
        raise ValueError(
            f"out must have the shape {tuple(x.shape)} on {x.device}, as x, got {tuple(out.shape)} on {out.device}"
        )
    if _span(out) is not None and not _is_same(out, x) and _overlap(out, x):
        raise ValueError("out must be x, or share no memory with it")
    return out


def _is_same(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def _span(x: Tensor) -> tuple[int, int] | None:
    """First byte of a tensor and the one after its last; None if it has no memory."""
    if x.numel() == 0 or not is_eager() or x.is_meta:
        return None
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.itemsize


def _overlap(a: Tensor, b: Tensor) -> bool:
    first, second = _span(a), _span(b)
    return first is not None and second is not None and first[0] < second[1] and second[0] < first[1]
