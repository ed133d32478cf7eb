"""Bit patterns of the float dtypes that operations read, as integers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import FORMATS, FloatFormat

__all__ = ["FLOAT_DTYPES", "Patterns", "float_format_of", "patterns_of", "widen"]

FLOAT_DTYPES: dict[torch.dtype, str] = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}
"""Dtypes that operations read, with the format of each."""


def float_format_of(dtype: torch.dtype) -> FloatFormat:
    """Format of a float dtype.

    Raises:
        TypeError: if operations don't read that dtype.
    """
    if dtype not in FLOAT_DTYPES:
        allowed = ", ".join(str(d) for d in FLOAT_DTYPES)
        raise TypeError(f"values must be one of {allowed}, got {dtype}")
    fmt = FORMATS[FLOAT_DTYPES[dtype]]
    assert isinstance(fmt, FloatFormat)
    return fmt


_ALL_BUT_SIGN = torch.iinfo(torch.int32).max


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """Signs and magnitudes of floats, as integers of one width.

    Attributes:
        signed: the patterns as two's-complement integers: negative where the sign bit is set.
        magnitude: the patterns without their sign bit.
        layout: the format that the patterns are of, binary32 or binary64.
    """

    signed: Tensor
    magnitude: Tensor
    layout: FloatFormat

    @property
    def inf(self) -> int:
        """Magnitude of Inf; every greater one is a NaN."""
        assert self.layout.inf_code is not None
        return self.layout.inf_code


def patterns_of(x: Tensor) -> Patterns:
    """Read `x` as bit patterns: binary64 for float64, else binary32, to which the narrower dtypes are widened exactly.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.

    Raises:
        TypeError: for another dtype.
    """
    float_format_of(x.dtype)
    if x.dtype is torch.float64:
        signed, layout = x.view(torch.int64), float_format_of(torch.float64)
    else:
        signed, layout = widen(x).view(torch.int32), float_format_of(torch.float32)
    return Patterns(signed=signed, magnitude=signed & (layout.sign_code - 1), layout=layout)


def widen(x: Tensor) -> Tensor:
    """Convert to float32 exactly, with the signs of zeros and NaNs; float64 stays as it is.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
    """
    if x.dtype is torch.bfloat16:
        return (x.view(torch.int16).to(torch.int32) << 16).view(torch.float32)
    if x.dtype is torch.float16:
        # No result is a subnormal binary32, so a processor that flushes those does no harm. The conversion may lose the
        # sign of a NaN: that of a single element does, that of a vector does not.
        sign = x.view(torch.int16).to(torch.int32) & ~_ALL_BUT_SIGN
        return (x.to(torch.float32).view(torch.int32) & _ALL_BUT_SIGN | sign).view(torch.float32)
    return x
