"""Results in the dtype that they are stored in."""

import torch
from torch import Tensor

from incref.formats import NanRule, Overflow, Rounding
from incref.numerics.encode import Encoding
from incref.numerics.patterns import float_format_of, patterns_of
from incref_kernels.cpu.tiles.nearest import encode_tile

__all__ = ["round_to"]


def round_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round float32 or float64 values to nearest even in `dtype`, once."""
    if values.dtype is dtype:
        return values
    if dtype is torch.float64:
        return values.to(dtype)
    layout = float_format_of(dtype)
    to = Encoding(fmt=layout, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.NONSATURATE, nan=NanRule.ERROR)
    return encode_tile(patterns_of(values), to).to(torch.int32 if dtype is torch.float32 else torch.int16).view(dtype)
