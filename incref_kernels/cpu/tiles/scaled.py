"""Division by the scales of blocks, and multiplication with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import E8M0, ElementFormat, IntFormat, IntRange, Overflow, ScaleArithmetic
from incref.numerics.encode import Encoding
from incref.numerics.patterns import float_format_of, patterns_of, widen
from incref.numerics.scaled import compute_dtype, product_dtype
from incref_kernels.cpu.tiles.decode import decode_patterns
from incref_kernels.cpu.tiles.nearest import encode_tile, round_tile
from incref_kernels.cpu.tiles.store import round_to

__all__ = [
    "ScaledEncoding",
    "dequantize_scaled_tile",
    "divided_by",
    "fake_quantize_scaled_tile",
    "quantize_scaled_tile",
]


@dataclass(frozen=True, kw_only=True)
class ScaledEncoding:
    """How quotients become codes.

    Attributes:
        target: the format of the codes.
        to: how a quotient is rounded; to a wider format where a zero point is added.
        int_range: which codes of an integer format are used.
        arithmetic: how a value is divided by its scale.
        has_zero_point: whether there is one for each block.
        keeps_finite: whether a quotient that overflows the arithmetic counts as finite.
    """

    target: ElementFormat
    to: Encoding
    int_range: IntRange
    arithmetic: ScaleArithmetic
    has_zero_point: bool = False
    keeps_finite: bool = False


def divided_by(x: Tensor, factor: Tensor, *, is_division: bool) -> Tensor:
    """Compute `x / factor`, or `x * factor`, with one rounding.

    A NaN in x is the quotient, else a NaN in the factor; a NaN that is made has sign bit 0.
    """
    quotient = x / factor if is_division else x * factor
    new = torch.where(factor.isnan(), factor, torch.nan)
    return torch.where(x.isnan(), x, torch.where(quotient.isnan(), new, quotient))


def scale_floats(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Give scales as values of `dtype`, exactly; uint8 is read as codes of E8M0."""
    if scale.dtype is not torch.uint8:
        return widen(scale).to(dtype)
    wide = torch.int64 if dtype is torch.float64 else torch.int32
    return decode_patterns(scale.to(wide), E8M0, float_format_of(dtype)).view(dtype)


def quantize_scaled_tile(x: Tensor, scale: Tensor, *rest: Tensor, how: ScaledEncoding) -> Tensor:
    """Compute `encode(x / scale)`; with a zero point it is added, and the sum limited to the codes.

    Args:
        x: the elements.
        scale: of their block.
        rest: the zero point if `how` has one, and random bits if its rounding is stochastic.
        how: how quotients become codes.
    """
    zero_point, random_bits = _unpacked(rest, how)
    codes = encode_tile(patterns_of(_quotient(x, scale, how)), how.to, random_bits=random_bits)
    return codes if zero_point is None else _shifted(codes, zero_point, how)


def fake_quantize_scaled_tile(x: Tensor, scale: Tensor, *rest: Tensor, how: ScaledEncoding) -> Tensor:
    """Quantize as `quantize_scaled_tile` does and dequantize, to the dtype of x."""
    zero_point, random_bits = _unpacked(rest, how)
    source = patterns_of(_quotient(x, scale, how))
    product = product_dtype(scale.dtype if scale.dtype is not torch.uint8 else x.dtype, x.dtype)
    if zero_point is None:
        values = round_tile(source, how.to, random_bits=random_bits).to(product)
    else:
        codes = _shifted(encode_tile(source, how.to, random_bits=random_bits), zero_point, how)
        values = (codes - zero_point.to(codes.dtype)).to(product)
    return round_to(values * scale_floats(scale, product), x.dtype)


def dequantize_scaled_tile(
    codes: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, fmt: ElementFormat, dtype: torch.dtype
) -> Tensor:
    """Compute `(decode(codes) - zero_point) * scale`, rounded to float32 or float64, then to `dtype`."""
    product = product_dtype(scale.dtype if scale.dtype is not torch.uint8 else dtype, dtype)
    wide = torch.int64 if product is torch.float64 else torch.int32
    if isinstance(fmt, IntFormat):
        shifted = codes.to(wide) if zero_point is None else codes.to(wide) - zero_point.to(wide)
        values = shifted.to(product)
    else:
        values = decode_patterns(codes.to(wide), fmt, float_format_of(product)).view(product)
    return round_to(values * scale_floats(scale, product), dtype)


def _unpacked(rest: tuple[Tensor, ...], how: ScaledEncoding) -> tuple[Tensor | None, Tensor | None]:
    zero_point = rest[0] if how.has_zero_point else None
    random = rest[how.has_zero_point :]
    return zero_point, random[0] if random else None


def _quotient(x: Tensor, scale: Tensor, how: ScaledEncoding) -> Tensor:
    compute = compute_dtype(x.dtype)
    values, factor = widen(x), scale_floats(scale, compute)
    is_division = how.arithmetic is ScaleArithmetic.DIVIDE
    if not is_division:
        factor = 1.0 / factor
    quotient = divided_by(values, factor, is_division=is_division)
    if how.keeps_finite and how.to.overflow is Overflow.SATURATE_FINITE:
        layout = float_format_of(compute)
        is_lost = (values.abs() <= layout.qmax) & (quotient.abs() > layout.qmax)
        quotient = torch.where(is_lost, quotient.clamp(-layout.qmax, layout.qmax), quotient)
    return quotient


def _shifted(codes: Tensor, zero_point: Tensor, how: ScaledEncoding) -> Tensor:
    target = how.target
    assert isinstance(target, IntFormat)
    least = -target.max_code if target.is_signed and how.int_range is IntRange.RESTRICTED else target.min_code
    return (codes + zero_point.to(codes.dtype)).clamp(least, target.max_code)
