"""Codes of one byte each to words that they fill, and back; a tile holds the codes of words side by side or in rows."""

from functools import reduce
from operator import or_

import torch
from torch import Tensor

from incref.formats import ElementFormat, IntFormat
from incref.formats.layouts import WordLayout
from incref.numerics.checks import require_not_nan

__all__ = ["pack_across_tile", "pack_along_tile", "unpack_along_tile"]


def pack_along_tile(codes: Tensor, *, fmt: ElementFormat, layout: WordLayout, words: torch.dtype) -> Tensor:
    """Pack the bytes of each integer, the lowest one first, into a word."""
    wide = codes.to(torch.int64 if codes.dtype is torch.int64 else torch.int32)
    count, _ = layout.unit(fmt.bits)
    return _word([(wide >> (8 * i)) & 0xFF for i in range(count)], fmt, layout).to(words)


def pack_across_tile(codes: Tensor, *, fmt: ElementFormat, layout: WordLayout, words: torch.dtype, dim: int) -> Tensor:
    """Pack the rows of a tile of codes into one of words."""
    wide = codes.to(torch.int32) & 0xFF
    count, _ = layout.unit(fmt.bits)
    return _word([wide.select(dim, i) for i in range(count)], fmt, layout).to(words).unsqueeze(0)


def unpack_along_tile(words: Tensor, *, fmt: ElementFormat, layout: WordLayout, codes: torch.dtype) -> Tensor:
    """Give the codes of each word as the bytes of an integer, the lowest one first."""
    wide = words.to(torch.int64 if codes is torch.int64 else torch.int32)
    mask, half = fmt.num_codes - 1, _half(fmt)
    found = [(((wide >> place) & mask) - layout.offset) & mask for place in layout.places(fmt.bits)]
    return _joined([(((code ^ half) - half) & 0xFF) << (8 * i) for i, code in enumerate(found)]).to(codes)


def _word(codes: list[Tensor], fmt: ElementFormat, layout: WordLayout) -> Tensor:
    mask, half = fmt.num_codes - 1, _half(fmt)
    # What no code is, is lost like a NaN without one.
    require_not_nan(_joined([(code + half) & 0xFF & ~mask for code in codes]) != 0, fmt.name)
    places = layout.places(fmt.bits)
    return _joined([((code + layout.offset) & mask) << place for code, place in zip(codes, places, strict=True)])


def _joined(parts: list[Tensor]) -> Tensor:
    return reduce(or_, parts)


def _half(fmt: ElementFormat) -> int:
    """Where signed codes begin anew, counted from the least."""
    return fmt.num_codes // 2 if isinstance(fmt, IntFormat) and fmt.is_signed else 0
