"""Packed layouts as data: which bits of which word a code stands in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["LAYOUTS", "PackLayout", "WordLayout"]


class PackLayout(Enum):
    """Where code `i` of a run of codes, each of b bits, is kept.

    Bit 0 is the least significant one of a word. Words are uint8 or, where the name says so, int32. Bits that no code
    owns are 0. A signed code is kept as the low b bits of its two's complement.
    """

    BYTES = "bytes"
    """Byte `i // n`, from bit `b * (i % n)`, with `n = 8 // b`: nibble pairs, crumbs and bits, the first one lowest."""
    DENSE = "dense"
    """Bits `b * i` to `b * i + b - 1` of a stream; bit j of the stream is bit `j % 8` of byte `j // 8`.

    The same as BYTES where b divides 8; four 6-bit codes in three bytes.
    """
    INT32 = "int32"
    """Word `i // n`, from bit `b * (i % n)`, with `n = 32 // b`: ten 3-bit codes in a word, two bits of it unused."""
    DENSE_INT32 = "dense_int32"
    """Bits `b * i` to `b * i + b - 1` of a stream; bit j of the stream is bit `j % 32` of word `j // 32`.

    The same as INT32 where b divides 32; 32 3-bit codes in three words.
    """
    GPTQ_V1 = "gptq_v1"
    """Zero points of the first GPTQ checkpoint format: `(z - 1) mod 2**b`, kept as in DENSE_INT32.

    So z = 0 is kept as `2**b - 1`; read back, that is 0 again, never `2**b`. Unsigned integers only.
    The weights of that format are kept as in GPTQ_V2.
    """
    GPTQ_V2 = "gptq_v2"
    """Weights of both GPTQ checkpoint formats, and zero points of the second: as in DENSE_INT32."""
    AWQ = "awq"
    """4 bits: word `i // 8`, from bit `4 * p`, with p the place of `i % 8` in (0, 2, 4, 6, 1, 3, 5, 7)."""
    HPU = "hpu"
    """4 bits: word `i // 8`, from bit `4 * (i % 8)`, i counting output features; zero points as they are."""


@dataclass(frozen=True, kw_only=True)
class WordLayout:
    """The facts behind a `PackLayout`.

    Attributes:
        word_bits: width of a word, 8 or 32.
        is_dense: whether a code may begin in one word and end in the next.
        order: the code at each place of a word, counted from bit 0; None for 0, 1, 2, ...
        offset: what is added to a code, modulo `2**bits`, before it is kept.
        code_bits: the widths of codes that the layout is defined for.
    """

    word_bits: int
    is_dense: bool = False
    order: tuple[int, ...] | None = None
    offset: int = 0
    code_bits: tuple[int, ...] = tuple(range(1, 9))

    def unit(self, bits: int) -> tuple[int, int]:
        """How many codes, and how many words, the pattern takes to repeat.

        >>> LAYOUTS[PackLayout.DENSE].unit(6), LAYOUTS[PackLayout.INT32].unit(3)
        ((4, 3), (10, 1))
        """
        if not self.is_dense:
            return self.word_bits // bits, 1
        period = math.lcm(bits, self.word_bits)
        return period // bits, period // self.word_bits

    def num_words(self, bits: int, length: int) -> int:
        """The least number of words that hold `length` codes."""
        if self.is_dense:
            return -(-length * bits // self.word_bits)
        return -(-length // (self.word_bits // bits))

    def places(self, bits: int) -> tuple[int, ...]:
        """For each code of a unit, the bit of the unit that it begins at, words following one another."""
        num_codes, _ = self.unit(bits)
        order = self.order or tuple(range(num_codes))
        return tuple(bits * order.index(code) for code in range(num_codes))


_DENSE_INT32 = WordLayout(word_bits=32, is_dense=True)

# A dict, not a MappingProxyType: torch.compile traces look-ups by an enum member in a dict only.
LAYOUTS: Mapping[PackLayout, WordLayout] = {
    PackLayout.BYTES: WordLayout(word_bits=8),
    PackLayout.DENSE: WordLayout(word_bits=8, is_dense=True),
    PackLayout.INT32: WordLayout(word_bits=32),
    PackLayout.DENSE_INT32: _DENSE_INT32,
    PackLayout.GPTQ_V1: WordLayout(word_bits=32, is_dense=True, offset=-1),
    PackLayout.GPTQ_V2: _DENSE_INT32,
    PackLayout.AWQ: WordLayout(word_bits=32, order=(0, 2, 4, 6, 1, 3, 5, 7), code_bits=(4,)),
    PackLayout.HPU: WordLayout(word_bits=32, code_bits=(4,)),
}
"""The facts of every layout."""
