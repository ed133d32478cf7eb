"""Rounding to nearest even by a sum: the usual case, in half the steps of the reference.

The sum with a large power of two is rounded to the grid of the target, by the rounding of IEEE 754 addition. So the
result is that of `incref.numerics.encode.encode_patterns`.
"""

import torch
from torch import Tensor

from incref.formats import FloatFormat, IntFormat, IntRange, NanRule, Overflow, Rounding
from incref.numerics.checks import require_not_nan
from incref.numerics.encode import Encoding, encode_patterns
from incref.numerics.patterns import Patterns
from incref_kernels.cpu.tiles.decode import decode_patterns

__all__ = ["encode_tile", "round_tile"]


def rounds_by_sum(to: Encoding, layout: FloatFormat) -> bool:
    """Whether the sum does it: to nearest even, saturating, on a grid whose numbers binary32 holds.

    The parity of a code is that of its mantissa field, so there has to be one. The power that is added has to be a
    normal number.
    """
    fmt = to.fmt
    if to.rounding is not Rounding.NEAREST_EVEN or to.overflow is not Overflow.SATURATE or layout.bits != 32:
        return False
    if isinstance(fmt, IntFormat):
        return fmt.bits <= 16
    if not isinstance(fmt, FloatFormat):
        return False
    has_room = fmt.emin >= layout.emin and fmt.emax + layout.mantissa_bits - fmt.mantissa_bits < layout.emax
    return has_room and fmt.is_signed and fmt.has_zero and 0 < fmt.mantissa_bits < layout.mantissa_bits


def encode_tile(
    source: Patterns, to: Encoding, *, exponent: Tensor | None = None, random_bits: Tensor | None = None
) -> Tensor:
    """Encode as `encode_patterns` does."""
    if not rounds_by_sum(to, source.layout):
        return encode_patterns(source, to, random_bits=random_bits, exponent=exponent)
    fmt = to.fmt
    sign_mask = source.signed >> (source.layout.bits - 1)
    is_nan = source.magnitude > source.inf
    scaled = _divided(source, exponent)
    if isinstance(fmt, IntFormat):
        return _without_nan(_int_codes(scaled, sign_mask, fmt, to, source.layout), is_nan, to)
    assert isinstance(fmt, FloatFormat)
    width = source.layout.mantissa_bits
    limited, power = _grid(scaled, fmt, source.layout)
    steps = (limited.view(torch.float32) + power.view(torch.float32)).view(torch.int32) - power
    binade = power - ((width - fmt.mantissa_bits) << width)
    base = (binade >> (width - fmt.mantissa_bits)) - ((fmt.emin + source.layout.bias) << fmt.mantissa_bits)
    code, sign = steps + base, sign_mask & fmt.sign_code
    if fmt.nan_code is None:
        return _without_nan(code | sign, is_nan, to)
    if fmt.has_signed_nan:
        return torch.where(is_nan, fmt.nan_code, code) | sign
    # There is one NaN, and no -0.
    return torch.where(is_nan, fmt.nan_code, torch.where(code == 0, 0, code | sign))


def round_tile(
    source: Patterns, to: Encoding, *, exponent: Tensor | None = None, random_bits: Tensor | None = None
) -> Tensor:
    """Round to values of the format: what `encode_tile` gives, decoded to the floats of `source`."""
    fmt, layout = to.fmt, source.layout
    dtype = torch.float64 if layout.bits == 64 else torch.float32
    if not rounds_by_sum(to, layout):
        codes = encode_patterns(source, to, random_bits=random_bits, exponent=exponent)
        # Those of integers are wider.
        return decode_patterns(codes.to(source.magnitude.dtype), fmt, layout).view(dtype)
    is_nan = source.magnitude > source.inf
    scaled = _divided(source, exponent)
    if isinstance(fmt, IntFormat):
        codes = _without_nan(_int_codes(scaled, source.signed >> (layout.bits - 1), fmt, to, layout), is_nan, to)
        return codes.to(dtype) * fmt.smallest_positive
    assert isinstance(fmt, FloatFormat)
    limited, power = _grid(scaled, fmt, layout)
    large = power.view(torch.float32)
    rounded = ((limited.view(torch.float32) + large) - large).view(torch.int32)
    sign = source.signed & -layout.sign_code
    if fmt.nan_code is None:
        return _without_nan(rounded | sign, is_nan, to).view(torch.float32)
    assert layout.nan_code is not None
    if fmt.has_signed_nan:
        return (torch.where(is_nan, layout.nan_code, rounded) | sign).view(torch.float32)
    signed = torch.where(rounded == 0, 0, rounded | sign)
    return torch.where(is_nan, layout.nan_code, signed).view(torch.float32)


def _divided(source: Patterns, exponent: Tensor | None) -> Tensor:
    """Magnitudes divided by `2**exponent`: exactly, or so far below the least positive value that it is the same."""
    if exponent is None:
        return source.magnitude
    layout = source.layout
    width = layout.mantissa_bits
    # The reciprocal of the greatest power is a subnormal.
    inverse = torch.where(exponent > -layout.emin, 1 << (width - 1), (layout.bias - exponent) << width)
    return (source.magnitude.view(torch.float32) * inverse.view(torch.float32)).view(torch.int32)


def _grid(scaled: Tensor, fmt: FloatFormat, layout: FloatFormat) -> tuple[Tensor, Tensor]:
    """Magnitudes limited to the range of `fmt`, and the power of two whose sum with each is rounded to the grid."""
    width = layout.mantissa_bits
    # Rounding keeps the order, so the end of the range may come first. What is not a number is beyond it, too.
    limited = scaled.clamp(max=_greatest_pattern(fmt, layout))
    binade = (limited & (((1 << layout.exponent_bits) - 1) << width)).clamp(min=(fmt.emin + layout.bias) << width)
    return limited, binade + ((width - fmt.mantissa_bits) << width)


def _greatest_pattern(fmt: FloatFormat, layout: FloatFormat) -> int:
    """Pattern in `layout` of the greatest value of `fmt`."""
    mantissa = fmt.max_code & ((1 << fmt.mantissa_bits) - 1)
    exponent = (fmt.max_code >> fmt.mantissa_bits) - fmt.bias + layout.bias
    return (exponent << layout.mantissa_bits) | (mantissa << (layout.mantissa_bits - fmt.mantissa_bits))


def _int_codes(scaled: Tensor, sign_mask: Tensor, fmt: IntFormat, to: Encoding, layout: FloatFormat) -> Tensor:
    width = layout.mantissa_bits
    power = torch.tensor((width - fmt.fraction_bits + layout.bias) << width, dtype=torch.int32)
    # Beyond the range on either side, with room for a sum that is exact but for its rounding.
    limited = scaled.clamp(max=(fmt.bits - fmt.fraction_bits + layout.bias) << width)
    size = (limited.view(torch.float32) + power.view(torch.float32)).view(torch.int32) - power
    least = -fmt.max_code if fmt.is_signed and to.int_range is IntRange.RESTRICTED else fmt.min_code
    return ((size ^ sign_mask) - sign_mask).clamp(least, fmt.max_code)


def _without_nan(code: Tensor, is_nan: Tensor, to: Encoding) -> Tensor:
    """What a NaN becomes in a format without; limited to the range, it is the largest of its sign already."""
    if to.nan is NanRule.ERROR:
        require_not_nan(is_nan, to.fmt.name)
    return torch.where(is_nan, 0, code) if to.nan is NanRule.ZERO else code
