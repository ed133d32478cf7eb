"""What functions that are no operations require before they call operators."""

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.hpu.available import why_not_device, why_unavailable
from incref_kernels.hpu.casts import WIDE

__all__ = ["require_scales", "require_values"]


def require_values(**tensors: Tensor) -> None:
    """Check that tensors are where the operators are, and of one dtype that they take.

    Raises:
        UnsupportedError: if there is no Gaudi and no simulation of one, or a tensor is elsewhere.
        TypeError: for another dtype.
    """
    reason = why_unavailable() or why_not_device(**tensors)
    if reason is not None:
        raise UnsupportedError(f"backend 'hpu' can't compute this: {reason}")
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= set(WIDE):
        raise TypeError(
            f"{', '.join(tensors)} must be all torch.float32 or all torch.bfloat16, got "
            f"{', '.join(str(tensor.dtype) for tensor in tensors.values())}"
        )


def require_scales(**scales: Tensor) -> None:
    """Check that each is one scale. Its value is not looked at, which would end a graph of the lazy mode.

    Raises:
        TypeError: if one is not float32.
        ValueError: if one has another shape.
    """
    for name, scale in scales.items():
        if scale.dtype is not torch.float32:
            raise TypeError(f"the scale {name} must be torch.float32, got {scale.dtype}")
        if scale.shape != ():
            raise ValueError(f"the scale {name} must have the shape (), got {tuple(scale.shape)}")
