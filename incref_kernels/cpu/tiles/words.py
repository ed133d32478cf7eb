"""Codes of a weight as they are stored, several in a byte, to values."""

import torch
from torch import Tensor

from incref.formats import BlockFormat, Format, IntFormat
from incref_kernels.cpu.tiles.blocks import dequantize_tile
from incref_kernels.cpu.tiles.scaled import dequantize_scaled_tile

__all__ = ["dequantize_words_tile"]


def dequantize_words_tile(
    words: Tensor,
    scale: Tensor,
    other: Tensor | None = None,
    *,
    fmt: Format,
    places: int,
    rounded: torch.dtype,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Dequantize the first codes of all bytes, the second ones, and so on.

    Args:
        words: uint8, codes from the lowest bits on; or one code in an element, uint8 or int8.
        scale: of all.
        other: the zero point, or the scale of the tensor, if there is one.
        fmt: of the codes.
        places: codes in a word.
        rounded: what values are rounded to.
        dtype: of the results, which holds values of `rounded`.
    """
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    results = []
    for place in range(places):
        codes = words.to(torch.int32)
        if places > 1 and isinstance(element, IntFormat) and element.is_signed:
            codes = (codes << (32 - element.bits * (place + 1))) >> (32 - element.bits)
        elif places > 1:
            codes = (codes >> (place * element.bits)) & (element.num_codes - 1)
        if isinstance(fmt, BlockFormat):
            values = dequantize_tile(codes, scale, other, fmt=fmt, dtype=rounded, dim=-1)
        else:
            values = dequantize_scaled_tile(codes, scale, other, fmt=element, dtype=rounded)
        results.append(values if rounded is dtype else values.to(dtype))
    return tuple(results)
