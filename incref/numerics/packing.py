"""Codes narrower than a byte, put into words and taken out again, with shifts and masks."""

import torch
from torch import Tensor

from incref.formats.layouts import WordLayout

__all__ = ["pack_words", "unpack_words", "word_dtype"]


def word_dtype(layout: WordLayout) -> torch.dtype:
    """Dtype of the words of `layout`."""
    return torch.uint8 if layout.word_bits == 8 else torch.int32


def pack_words(codes: Tensor, bits: int, *, layout: WordLayout, axis: int) -> Tensor:
    """Pack unsigned codes along `axis`.

    Args:
        codes: uint8, any shape and strides, each from 0 to `2**bits - 1`.
        bits: width of a code.
        layout: where each code is kept.
        axis: dimension that becomes one of words.

    Returns:
        Words in the shape of `codes` but for `axis`, which has the least number that holds all; the last is filled up
        with zero bits.
    """
    length = codes.shape[axis]
    if layout.offset:
        codes = (codes + layout.offset % (1 << bits)) & ((1 << bits) - 1)
    num_codes, num_words = layout.unit(bits)
    lanes = _units(codes, axis, num_codes).unbind(axis + 1)
    words = [_word(lanes, w, bits, layout) for w in range(num_words)]
    packed = words[0] if num_words == 1 else torch.stack(words, axis + 1).flatten(axis, axis + 1)
    return packed.narrow(axis, 0, layout.num_words(bits, length)).contiguous()


def unpack_words(packed: Tensor, bits: int, *, layout: WordLayout, axis: int, length: int) -> Tensor:
    """Undo `pack_words`.

    Args:
        packed: words, any shape and strides.
        bits: width of a code.
        layout: where each code is kept.
        axis: dimension of words.
        length: how many codes there are along `axis`.

    Returns:
        uint8 codes; bits of the words that no code owns are ignored.
    """
    _, num_words = layout.unit(bits)
    words = _units(packed, axis, num_words).unbind(axis + 1)
    lanes = [_lane(words, place, bits, layout) for place in layout.places(bits)]
    codes = torch.stack(lanes, axis + 1).flatten(axis, axis + 1).narrow(axis, 0, length)
    if layout.offset:
        codes = (codes + -layout.offset % (1 << bits)) & ((1 << bits) - 1)
    return codes.contiguous()


def _units(x: Tensor, axis: int, size: int) -> Tensor:
    """Split `axis` into units of `size`, the last one filled up with zeros."""
    fill = -x.shape[axis] % size
    if fill:
        x = torch.nn.functional.pad(x, (0, 0) * (x.dim() - 1 - axis) + (0, fill))
    return torch.unflatten(x, axis, (x.shape[axis] // size, size))


def _word(lanes: tuple[Tensor, ...], w: int, bits: int, layout: WordLayout) -> Tensor:
    """Word `w` of every unit: the codes that stand in it, whole or in part."""
    word = torch.zeros_like(lanes[0], dtype=word_dtype(layout))
    for lane, place in zip(lanes, layout.places(bits), strict=True):
        shift = place - w * layout.word_bits
        if 0 <= shift < layout.word_bits:
            word = word | (lane.to(word.dtype) << shift)
        elif -bits < shift < 0:
            word = word | (lane >> -shift).to(word.dtype)
    return word


def _lane(words: tuple[Tensor, ...], place: int, bits: int, layout: WordLayout) -> Tensor:
    """The code that begins at bit `place` of every unit."""
    w, shift = divmod(place, layout.word_bits)
    held = min(bits, layout.word_bits - shift)
    # The mask drops the copies of the sign bit that a right shift of a negative word brings in.
    code = ((words[w] >> shift) & ((1 << held) - 1)).to(torch.uint8)
    if held < bits:
        rest = words[w + 1] & ((1 << (bits - held)) - 1)
        code = code | (rest.to(torch.uint8) << held)
    return code
