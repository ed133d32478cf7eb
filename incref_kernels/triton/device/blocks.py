"""Blocks with a shared scale: a tile of patterns in which every block lies along one axis."""

import triton
import triton.language as tl

from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.device.divide import divide, divide_by_scale, pattern_of, value_of
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import (
    DIVIDE,
    NAN_BLOCK,
    SATURATE_BLOCK,
    are_nan_blocks,
    block_nan_code,
    block_nan_scale,
    scale_encoding,
)
from incref_kernels.triton.device.scales import scale_exponent

__all__ = ["encode_mx_blocks", "encode_nvfp4_blocks"]


@triton.jit
def block_state(signed: tl.tensor, axis: tl.constexpr, layout: tl.constexpr, specials: tl.constexpr) -> tl.tensor:
    """Look through blocks: largest finite magnitude, whether the scale is NaN, whether it is its greatest value."""
    magnitude = signed & (layout.sign_code - 1)
    if are_nan_blocks(specials):
        amax = tl.max(magnitude, axis=axis)
        is_nan = amax >= layout.inf_code
        is_top = tl.zeros_like(is_nan)
    else:
        amax = tl.max(tl.where(magnitude < layout.inf_code, magnitude, 0), axis=axis)
        has_nan = tl.max((magnitude > layout.inf_code).to(tl.int32), axis=axis) != 0
        has_inf = tl.max((magnitude == layout.inf_code).to(tl.int32), axis=axis) != 0
        is_nan = tl.zeros_like(has_nan)
        is_top = tl.zeros_like(has_nan)
        if specials.nan == NAN_BLOCK:
            is_nan = is_nan | has_nan
        elif specials.nan == SATURATE_BLOCK:
            is_top = is_top | has_nan
        if specials.inf == NAN_BLOCK:
            is_nan = is_nan | has_inf
        elif specials.inf == SATURATE_BLOCK:
            is_top = is_top | has_inf
    return amax, is_nan, is_top


@triton.jit
def encode_mx_blocks(
    signed: tl.tensor,
    random: tl.tensor,
    axis: tl.constexpr,
    layout: tl.constexpr,
    fmt: tl.constexpr,
    to: tl.constexpr,
    rule: tl.constexpr,
    specials: tl.constexpr,
) -> tl.tensor:
    """Encode blocks whose scales are powers of two.

    Returns:
        Codes of elements, codes of scales, and which elements are or become NaN outside a block that is NaN.
    """
    amax, is_nan, is_top = block_state(signed, axis, layout, specials)
    element: tl.constexpr = fmt.element
    exponent = scale_exponent(amax, layout, element, rule)
    exponent = tl.minimum(tl.maximum(exponent, fmt.scale.emin), fmt.scale.emax)
    exponent = tl.where(is_top, fmt.scale.emax, exponent)
    codes, is_lost = encode_patterns(signed, random, tl.expand_dims(exponent, axis), layout, to)
    in_nan_block = tl.expand_dims(is_nan, axis)
    codes = tl.where(in_nan_block, block_nan_code(fmt), codes)
    scale_codes = tl.where(is_nan, block_nan_scale(fmt), exponent + fmt.scale.bias)
    return codes, scale_codes, is_lost & (in_nan_block == 0)


@triton.jit
def encode_nvfp4_blocks(
    signed: tl.tensor,
    random: tl.tensor,
    tensor_scale: tl.tensor,
    axis: tl.constexpr,
    layout: tl.constexpr,
    fmt: tl.constexpr,
    to: tl.constexpr,
    arithmetic: tl.constexpr,
    specials: tl.constexpr,
) -> tl.tensor:
    """Encode blocks with a float scale beneath one for the whole tensor, float32.

    Returns:
        Codes of elements, codes of scales, and which elements are or become NaN outside a block that is NaN.
    """
    amax, is_nan, is_top = block_state(signed, axis, layout, specials)
    wanted = divide(divide(value_of(amax), fmt.element.qmax), tensor_scale)
    scale_code, _ = encode_patterns(pattern_of(wanted), None, None, layout, scale_encoding(fmt))
    scale_code = tl.where(is_top, fmt.scale.max_code, scale_code)
    scale_format: tl.constexpr = fmt.scale
    scale = value_of(decode_patterns(scale_code, scale_format, layout))
    # Below half the smallest scale a block vanishes.
    vanishes = (scale == 0) | is_nan
    if arithmetic == DIVIDE:
        factor = scale * tensor_scale
    else:
        # Beneath tiny scales the reciprocal would overflow, and make NaN of every zero.
        inverse = divide(divide(tl.full([], 1.0, tl.float32), tensor_scale), scale)
        factor = tl.minimum(inverse, layout.qmax, propagate_nan=tl.PropagateNan.ALL)
    # Of 16 elements too few share a scale for its reciprocal to pay.
    quotient = divide_by_scale(signed, tl.expand_dims(factor, axis), arithmetic == DIVIDE, layout, is_shared=False)
    # A zero of either sign stays what it is.
    zero = signed & -layout.sign_code
    quotient = tl.where(tl.expand_dims(vanishes, axis), zero, quotient)
    codes, is_lost = encode_patterns(quotient, random, None, layout, to)
    in_nan_block = tl.expand_dims(is_nan, axis)
    codes = tl.where(in_nan_block, block_nan_code(fmt), codes)
    scale_codes = tl.where(is_nan, block_nan_scale(fmt), scale_code)
    return codes, scale_codes, is_lost & (in_nan_block == 0)
