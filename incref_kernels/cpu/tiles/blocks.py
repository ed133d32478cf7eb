"""Blocks that share a scale: tiles along whose first or last dimension every block lies."""

from dataclasses import replace

import torch
from torch import Tensor

from incref.formats import (
    BlockFormat,
    BlockRule,
    FloatFormat,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials, BlockState, nan_element_code
from incref.numerics.patterns import Patterns, float_format_of, patterns_of, widen
from incref.numerics.scales import scale_codes, scale_exponent
from incref_kernels.cpu.tiles.decode import decode_patterns
from incref_kernels.cpu.tiles.nearest import encode_tile, round_tile
from incref_kernels.cpu.tiles.scaled import divided_by
from incref_kernels.cpu.tiles.store import round_to

__all__ = [
    "dequantize_tile",
    "fake_quantize_mx_tile",
    "fake_quantize_nvfp4_tile",
    "quantize_mx_tile",
    "quantize_nvfp4_tile",
]


def quantize_mx_tile(
    x: Tensor,
    random_bits: Tensor | None = None,
    *,
    fmt: BlockFormat,
    to: Encoding,
    rule: ScaleRule,
    specials: BlockSpecials,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """Quantize blocks along `dim` whose scales are powers of two: codes of elements, codes of scales."""
    source, state, exponent = _mx_exponent(x, fmt, rule, specials, dim)
    kept, to = _kept(source, state, to, specials)
    codes = encode_tile(kept, to, exponent=exponent, random_bits=random_bits)
    codes = torch.where(state.is_nan, nan_element_code(fmt), codes)
    return codes, scale_codes(exponent, state.is_nan, fmt.scale)


def fake_quantize_mx_tile(
    x: Tensor,
    random_bits: Tensor | None = None,
    *,
    fmt: BlockFormat,
    to: Encoding,
    rule: ScaleRule,
    specials: BlockSpecials,
    dim: int,
) -> Tensor:
    """Quantize blocks along `dim` and dequantize them, to the dtype of x."""
    source, state, exponent = _mx_exponent(x, fmt, rule, specials, dim)
    kept, to = _kept(source, state, to, specials)
    values = round_tile(kept, to, exponent=exponent, random_bits=random_bits)
    layout = source.layout
    width = layout.mantissa_bits
    # 2**-127 is a subnormal of binary32.
    pattern = torch.where(exponent < layout.emin, 1 << (width - 1), (exponent + layout.bias) << width)
    factor = torch.where(state.is_nan, layout.nan_code or 0, pattern).view(values.dtype)
    return round_to(values * factor, x.dtype)


def quantize_nvfp4_tile(
    x: Tensor,
    tensor_scale: Tensor,
    random_bits: Tensor | None = None,
    *,
    fmt: BlockFormat,
    to: Encoding,
    arithmetic: ScaleArithmetic,
    specials: BlockSpecials,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """Quantize blocks along `dim` beneath a scale of the tensor: codes of elements, codes of scales."""
    _, state = _look(x, specials, dim)
    scale_code, scale = _nvfp4_scale(state, tensor_scale, fmt)
    quotient = _nvfp4_quotient(x, state, scale, tensor_scale, arithmetic)
    codes = encode_tile(patterns_of(quotient), _without_nan(to, specials), random_bits=random_bits)
    codes = torch.where(state.is_nan, nan_element_code(fmt), codes)
    assert fmt.scale.nan_code is not None
    return codes, torch.where(state.is_nan, fmt.scale.nan_code, scale_code)


def fake_quantize_nvfp4_tile(
    x: Tensor,
    tensor_scale: Tensor,
    random_bits: Tensor | None = None,
    *,
    fmt: BlockFormat,
    to: Encoding,
    arithmetic: ScaleArithmetic,
    specials: BlockSpecials,
    dim: int,
) -> Tensor:
    """Quantize blocks along `dim` beneath a scale of the tensor and dequantize them, to the dtype of x."""
    _, state = _look(x, specials, dim)
    _, scale = _nvfp4_scale(state, tensor_scale, fmt)
    quotient = _nvfp4_quotient(x, state, scale, tensor_scale, arithmetic)
    values = round_tile(patterns_of(quotient), _without_nan(to, specials), random_bits=random_bits)
    factor = torch.where(state.is_nan, torch.nan, scale)
    return round_to(values * factor * tensor_scale, x.dtype)


def dequantize_tile(
    codes: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    *,
    fmt: BlockFormat,
    dtype: torch.dtype,
    dim: int,  # noqa: ARG001  # every element has its scale beside it
) -> Tensor:
    """Compute `decode(codes) * scale * tensor_scale`: an exact product, one rounded, and the rounding to `dtype`."""
    compute = torch.float64 if dtype is torch.float64 else torch.float32
    layout = float_format_of(compute)
    wide = torch.int64 if dtype is torch.float64 else torch.int32
    value = decode_patterns(codes.to(wide), fmt.element, layout).view(compute)
    value = value * decode_patterns(scale.to(wide), fmt.scale, layout).view(compute)
    if tensor_scale is not None:
        value = value * tensor_scale.to(compute)
    return round_to(value, dtype)


def _look(x: Tensor, specials: BlockSpecials, dim: int) -> tuple[Patterns, BlockState]:
    """What `incref.numerics.mx.block_state` finds."""
    source = patterns_of(x)
    if specials.are_nan_blocks:
        amax = source.magnitude.amax(dim, keepdim=True)
        return source, BlockState(amax=amax, is_nan=amax >= source.inf, is_top=None)
    amax = torch.where(source.magnitude < source.inf, source.magnitude, 0).amax(dim, keepdim=True)
    is_nan, is_top = amax < 0, amax < 0
    for has, rule in (
        ((source.magnitude > source.inf).any(dim, keepdim=True), specials.nan),
        ((source.magnitude == source.inf).any(dim, keepdim=True), specials.inf),
    ):
        if rule is BlockRule.NAN_BLOCK:
            is_nan = is_nan | has
        elif rule is BlockRule.SATURATE:
            is_top = is_top | has
    return source, BlockState(amax=amax, is_nan=is_nan, is_top=is_top)


def _mx_exponent(
    x: Tensor, fmt: BlockFormat, rule: ScaleRule, specials: BlockSpecials, dim: int
) -> tuple[Patterns, BlockState, Tensor]:
    source, state = _look(x, specials, dim)
    exponent = scale_exponent(state.amax, source.layout, fmt.element, rule).to(state.amax.dtype)
    exponent = exponent.clamp(fmt.scale.emin, fmt.scale.emax)
    if state.is_top is not None:
        exponent = torch.where(state.is_top, fmt.scale.emax, exponent)
    return source, state, exponent


def _kept(source: Patterns, state: BlockState, to: Encoding, specials: BlockSpecials) -> tuple[Patterns, Encoding]:
    """Elements of NaN blocks must not be taken for ones that have no code."""
    if specials.are_nan_blocks and to.overflow is Overflow.SATURATE:
        return source, replace(to, nan=NanRule.MAX)
    if to.nan is not NanRule.ERROR:
        return source, to
    magnitude = torch.where(state.is_nan, 0, source.magnitude)
    return Patterns(signed=source.signed, magnitude=magnitude, layout=source.layout), to


def _nvfp4_scale(state: BlockState, tensor_scale: Tensor, fmt: BlockFormat) -> tuple[Tensor, Tensor]:
    """Codes and values of the scales of blocks."""
    wanted = state.amax.view(torch.float32) / torch.tensor(fmt.element.qmax) / tensor_scale
    to = Encoding(fmt=fmt.scale, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.ERROR)
    code = encode_tile(patterns_of(wanted), to)
    if state.is_top is not None:
        code = torch.where(state.is_top, fmt.scale.max_code, code)
    assert isinstance(fmt.scale, FloatFormat)
    return code, decode_patterns(code, fmt.scale, float_format_of(torch.float32)).view(torch.float32)


def _nvfp4_quotient(
    x: Tensor,
    state: BlockState,
    scale: Tensor,
    tensor_scale: Tensor,
    arithmetic: ScaleArithmetic,
) -> Tensor:
    """Elements divided by their scales."""
    # Below half the smallest scale a block vanishes.
    vanishes = (scale == 0) | state.is_nan
    is_division = arithmetic is ScaleArithmetic.DIVIDE
    if is_division:
        factor = scale * tensor_scale
    else:
        # Beneath tiny scales the reciprocal would overflow, and make NaN of every zero.
        factor = (1.0 / tensor_scale / scale).clamp(max=float_format_of(torch.float32).qmax)
    values = widen(x)
    quotient = divided_by(values, factor, is_division=is_division)
    # A zero of either sign stays what it is.
    zero = (values.view(torch.int32) & -float_format_of(torch.float32).sign_code).view(torch.float32)
    return torch.where(vanishes, zero, quotient)


def _without_nan(to: Encoding, specials: BlockSpecials) -> Encoding:
    """Where no quotient is NaN, any rule for NaN will do but one that asks."""
    if specials.are_nan_blocks and to.overflow is Overflow.SATURATE:
        return replace(to, nan=NanRule.ZERO)
    return to
