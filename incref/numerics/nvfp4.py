"""NVFP4: blocks with an E4M3 scale beneath one float32 scale for the whole tensor."""

from dataclasses import replace

import torch
from torch import Tensor

from incref.formats import BlockFormat, NanRule, Overflow, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.amax import finite_magnitudes, reduce_amax
from incref.numerics.checks import is_eager
from incref.numerics.decode import decode_codes, value_table
from incref.numerics.encode import Encoding, encode_patterns
from incref.numerics.mx import BlockSpecials, block_pieces, block_state, nan_element_code
from incref.numerics.patterns import float_format_of, patterns_of, widen
from incref.numerics.scales import float_scale
from incref.numerics.tabulated import CodeTable, encode_into

__all__ = ["encode_nvfp4_blocks", "nvfp4_tensor_scale"]


def nvfp4_tensor_scale(x: Tensor, fmt: BlockFormat) -> Tensor:
    """Scale of the whole tensor: `amax / (element.qmax * scale.qmax)` over the finite elements, one rounding.

    Returns:
        float32, shape (); 1 where all finite elements are zero, at least the smallest normal value elsewhere.
    """
    whole = tuple(max(1, size) for size in x.shape)
    # In eager mode the usual case, a finite tensor, is spared two passes.
    amax = reduce_amax(x, whole) if is_eager() and not x.is_meta else None
    if amax is None or bool((amax >= patterns_of(x[:0]).inf).any()):
        amax = reduce_amax(x, whole, finite_magnitudes)
    if amax.numel() == 0:
        amax = torch.zeros((), dtype=amax.dtype, device=amax.device)
    return float_scale(amax.view(()).view(torch.float32), fmt.element.qmax * fmt.scale.qmax, ScaleRule.DIVIDE)


def encode_nvfp4_blocks(
    out: Tensor,
    x: Tensor,
    tensor_scale: Tensor,
    fmt: BlockFormat,
    to: Encoding,
    *,
    arithmetic: ScaleArithmetic,
    specials: BlockSpecials,
    table: CodeTable | None,
    random_bits: Tensor | None,
) -> Tensor:
    """Encode blocks that lie along the last dimension.

    Args:
        out: where the element codes are written, in the shape of `x`.
        x: values [..., blocks, block_size], of which there are some; not float64.
        tensor_scale: float32, shape ().
        fmt: NVFP4.
        to: how elements are encoded; its format is that of the elements.
        arithmetic: how an element is divided by its scales.
        specials: what NaN and Inf do to a block.
        table: of the elements' codes, or None.
        random_bits: for stochastic rounding, in the shape of `x`.

    Returns:
        Scale codes [..., blocks].
    """
    state = block_state(x, specials)
    element_max = torch.tensor(fmt.element.qmax, device=x.device)
    wanted = state.amax.view(torch.float32) / element_max / tensor_scale
    scale_to = Encoding(fmt=fmt.scale, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.ERROR)
    assert fmt.scale.nan_code is not None
    scale_code = encode_patterns(patterns_of(wanted), scale_to)
    if state.is_top is not None:
        scale_code = torch.where(state.is_top, fmt.scale.max_code, scale_code)
    scale_table = value_table(fmt.scale, torch.float32, x.device)
    scale = decode_codes(scale_code, fmt.scale, torch.float32, scale_table)
    # Below half the smallest scale a block vanishes; the elements of NaN blocks are replaced below.
    vanishes = (scale == 0) | state.is_nan
    if arithmetic is ScaleArithmetic.DIVIDE:
        factor = torch.where(vanishes, torch.inf, scale * tensor_scale)
    else:
        # Beneath tiny scales the reciprocal would overflow, and make NaN of every zero.
        inverse = (1.0 / tensor_scale / scale).clamp(max=float_format_of(torch.float32).qmax)
        factor = torch.where(vanishes, 0.0, inverse)
    # With both, NaN is met in NaN blocks alone.
    is_plain = specials.are_nan_blocks and to.overflow is Overflow.SATURATE
    if is_plain:
        to = replace(to, nan=NanRule.ZERO)
    has_nan_block = not is_eager() or bool(state.is_nan.any())
    for part in block_pieces(x):
        piece, by = widen(x[part]), factor[part].unsqueeze(-1)
        quotient = piece / by if arithmetic is ScaleArithmetic.DIVIDE else piece * by
        if not is_plain:
            zero = torch.zeros_like(piece).copysign(piece)
            quotient = torch.where(vanishes[part].unsqueeze(-1), zero, quotient)
        encode_into(out[part], quotient, to, table, random_bits=None if random_bits is None else random_bits[part])
        if has_nan_block:
            out[part].masked_fill_(state.is_nan[part].unsqueeze(-1), nan_element_code(fmt))
    return torch.where(state.is_nan, fmt.scale.nan_code, scale_code).to(torch.uint8)
