"""Bit patterns of the float dtypes that operations read, as integers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import FORMATS, FloatFormat

__all__ = ["FLOAT_DTYPES", "Patterns", "float_format_of", "patterns_of"]

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
    dtype = x.dtype
    float_format_of(dtype)
    if dtype is torch.float64:
        signed, layout = x.view(torch.int64), float_format_of(torch.float64)
    else:
        layout = float_format_of(torch.float32)
        if dtype is torch.bfloat16:
            signed = x.view(torch.int16).to(torch.int32) << 16
        else:
            # Widening float16 never meets a subnormal binary32, so a processor that flushes those does no harm.
            signed = x.to(torch.float32).view(torch.int32)
    return Patterns(signed=signed, magnitude=signed & (layout.sign_code - 1), layout=layout)
