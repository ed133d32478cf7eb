"""Results in the dtype that they are stored in."""

import torch
from torch import Tensor

from incref.formats import FloatFormat, NanRule, Overflow, Rounding
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
    if values.dtype is torch.float32 and dtype is torch.bfloat16:
        return _cut(values, layout).to(torch.int16).view(dtype)
    to = Encoding(fmt=layout, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.NONSATURATE, nan=NanRule.ERROR)
    return encode_tile(patterns_of(values), to).to(torch.int32 if dtype is torch.float32 else torch.int16).view(dtype)


def _cut(values: Tensor, layout: FloatFormat) -> Tensor:
    """Round to a format with the exponents of binary32, whose patterns are those of binary32 less their last bits."""
    wide = float_format_of(values.dtype)
    assert layout.nan_code is not None
    dropped = wide.bits - layout.bits
    pattern = values.view(torch.int32)
    kept = pattern >> dropped
    # A carry into the exponent makes the next power of two, or infinity.
    rounded = (pattern + ((1 << (dropped - 1)) - 1) + (kept & 1)) >> dropped
    return torch.where(values.isnan(), (kept & layout.sign_code) | layout.nan_code, rounded)
