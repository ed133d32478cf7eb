"""Codes in words, as places in a stream of bits; written from the formulas of `PackLayout`."""

from collections.abc import Sequence

from incref.formats.layouts import PackLayout

__all__ = ["pack_stream", "unpack_stream"]

_AWQ = (0, 2, 4, 6, 1, 3, 5, 7)


def _first_bit(i: int, bits: int, layout: PackLayout) -> int:
    """Where in the stream code `i` begins, the words following one another."""
    match layout:
        case PackLayout.BYTES:
            each = 8 // bits
            return 8 * (i // each) + bits * (i % each)
        case PackLayout.INT32 | PackLayout.HPU:
            each = 32 // bits
            return 32 * (i // each) + bits * (i % each)
        case PackLayout.AWQ:
            return 32 * (i // 8) + 4 * _AWQ.index(i % 8)
        case PackLayout.DENSE | PackLayout.DENSE_INT32 | PackLayout.GPTQ_V1 | PackLayout.GPTQ_V2:
            return bits * i


def _word_bits(layout: PackLayout) -> int:
    return 8 if layout in (PackLayout.BYTES, PackLayout.DENSE) else 32


def pack_stream(codes: Sequence[int], bits: int, layout: PackLayout) -> list[int]:
    """Pack codes into the fewest words that hold all of them; words of 32 bits are two's complement.

    >>> pack_stream([1, 2, 3], 4, PackLayout.BYTES)
    [33, 3]
    """
    width, stream, end = _word_bits(layout), 0, 0
    for i, code in enumerate(codes):
        kept = (code - (layout is PackLayout.GPTQ_V1)) % (1 << bits)
        first = _first_bit(i, bits, layout)
        stream |= kept << first
        end = max(end, first + bits)
    words = [(stream >> (width * w)) % (1 << width) for w in range(-(-end // width))]
    return [word - (1 << 32) if width == 32 and word >> 31 else word for word in words]


def unpack_stream(
    words: Sequence[int], bits: int, layout: PackLayout, length: int, *, is_signed: bool = False
) -> list[int]:
    """Take `length` codes out of words.

    >>> unpack_stream([33, 3], 4, PackLayout.BYTES, 3)
    [1, 2, 3]
    """
    width = _word_bits(layout)
    stream = sum((word % (1 << width)) << (width * w) for w, word in enumerate(words))
    codes = []
    for i in range(length):
        code = (stream >> _first_bit(i, bits, layout)) % (1 << bits)
        code = (code + (layout is PackLayout.GPTQ_V1)) % (1 << bits)
        codes.append(code - (1 << bits) if is_signed and code >> (bits - 1) else code)
    return codes
