"""Codes to patterns, by arithmetic: a table costs a processor more than the steps do."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from incref.formats import ElementFormat, FloatFormat, IntFormat
from incref.numerics.patterns import float_format_of

__all__ = ["decode_patterns"]

_HALF = float_format_of(torch.float16)


def decode_patterns(codes: Tensor, fmt: ElementFormat, layout: FloatFormat) -> Tensor:
    """Decode integers, whose bits above the width of `fmt` are ignored.

    Args:
        codes: int32, or int64 for patterns of binary64.
        fmt: a float or integer format.
        layout: binary32 or binary64, which holds every value of `fmt`.

    Returns:
        Patterns of `layout`, negative where the sign bit is set; the bits that the value has in
        `incref.numerics.decode`.
    """
    dtype = torch.float64 if layout.bits == 64 else torch.float32
    if isinstance(fmt, IntFormat):
        unused = layout.bits - fmt.bits
        code = (codes << unused) >> unused if fmt.is_signed else codes & (fmt.num_codes - 1)
        return (code.to(dtype) * fmt.smallest_positive).view(codes.dtype)
    assert isinstance(fmt, FloatFormat)
    code = codes & (fmt.num_codes - 1)
    if _fits_half(fmt, layout):
        halves = _with_specials(code.to(torch.int16), fmt, _HALF, partial(_half_fields, fmt=fmt))
        values = halves.view(torch.float16).to(torch.float32)
        return (values if fmt.bias == _HALF.bias else values * 2.0 ** (_HALF.bias - fmt.bias)).view(codes.dtype)
    return _with_specials(code, fmt, layout, partial(_finite, fmt=fmt, layout=layout, dtype=dtype))


def _fits_half(fmt: FloatFormat, layout: FloatFormat) -> bool:
    """Whether values are those of binary16 with the same fields, times a power of two: that conversion is exact."""
    is_narrow = fmt.exponent_bits < _HALF.exponent_bits or (fmt.bias == _HALF.bias and fmt.inf_code is not None)
    return layout.bits == 32 and fmt.has_zero and fmt.mantissa_bits <= _HALF.mantissa_bits and is_narrow


def _with_specials(code: Tensor, fmt: FloatFormat, layout: FloatFormat, finite: Callable[[Tensor], Tensor]) -> Tensor:
    """Patterns of `layout`: those that `finite` makes of magnitudes, and signs, infinities and NaN."""
    assert layout.nan_code is not None
    assert layout.inf_code is not None
    magnitude = code & (fmt.num_codes - 1 - fmt.sign_code)
    pattern = finite(magnitude)
    if fmt.inf_code is not None:
        pattern = torch.where(magnitude == fmt.inf_code, layout.inf_code, pattern)
    sign = (code << (layout.bits - fmt.bits)) & -layout.sign_code if fmt.is_signed else 0
    if fmt.nan_code is None:
        return pattern | sign
    if not fmt.has_signed_nan:
        return torch.where(code == fmt.nan_code, layout.nan_code, pattern | sign)
    is_nan = magnitude > fmt.inf_code if fmt.inf_code is not None else magnitude == fmt.nan_code
    return torch.where(is_nan, layout.nan_code, pattern) | sign


def _half_fields(magnitude: Tensor, fmt: FloatFormat) -> Tensor:
    """Shift the fields of a magnitude to where binary16 has them."""
    return magnitude << (_HALF.mantissa_bits - fmt.mantissa_bits)


def _finite(magnitude: Tensor, fmt: FloatFormat, layout: FloatFormat, dtype: torch.dtype) -> Tensor:
    """Patterns of finite values, by their fields."""
    width = fmt.mantissa_bits
    field, fraction = magnitude >> width, magnitude & ((1 << width) - 1)
    exponent = field + (layout.bias - fmt.bias)
    pattern = (exponent << layout.mantissa_bits) | (fraction << (layout.mantissa_bits - width))
    if fmt.emin < layout.emin:
        # Such formats have no mantissa; below the normal numbers of the layout there is one power of two.
        pattern = torch.where(exponent <= 0, 1 << (layout.mantissa_bits - 1), pattern)
    if fmt.has_zero and fmt.bias != layout.bias:
        # A subnormal is its fraction times the least positive value, both of which are normal numbers of the layout.
        small = (fraction.to(dtype) * 2.0 ** (fmt.emin - width)).view(magnitude.dtype)
        pattern = torch.where(field == 0, small, pattern)
    return pattern
