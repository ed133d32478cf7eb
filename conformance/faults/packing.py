"""Faults of packed codes: `pack` and `unpack`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from incref.formats import BlockFormat, ElementFormat, IntFormat, get_format
from incref.formats.layouts import LAYOUTS, PackLayout, WordLayout
from incref.ops import pack, unpack
from incref.ops.encode import get_element_format


class Pack(Kernel):
    """Puts one code after the other into its word."""

    op = "pack"
    is_right = True

    def __call__(self, codes: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1) -> Tensor:
        """Pack."""
        to, facts = get_element_format(fmt), LAYOUTS[layout]
        lines = self.lines(codes, axis)
        length = lines.shape[-1]
        words = torch.zeros(*lines.shape[:-1], facts.num_words(to.bits, length) + 1, dtype=torch.int64)
        for i in range(length):
            self.put(words, self.kept(lines[..., i].to(torch.int64), to, facts), i, to, facts)
        found = self.trim(words[..., :-1], facts, to, length)
        dtype = torch.uint8 if facts.word_bits == 8 else torch.int32
        return found.to(dtype).movedim(-1, axis).contiguous()

    def lines(self, codes: Tensor, axis: int) -> Tensor:
        return codes.movedim(axis, -1)

    def kept(self, code: Tensor, to: ElementFormat, facts: WordLayout) -> Tensor:
        return (code + facts.offset) % (1 << to.bits)

    def place(self, i: int, to: ElementFormat, facts: WordLayout) -> int:
        unit, words = facts.unit(to.bits)
        return i // unit * words * facts.word_bits + facts.places(to.bits)[i % unit]

    def put(self, words: Tensor, code: Tensor, i: int, to: ElementFormat, facts: WordLayout) -> None:
        word, shift = divmod(self.place(i, to, facts), facts.word_bits)
        full = (1 << facts.word_bits) - 1
        words[..., word] |= (code << shift) & full
        if shift + to.bits > facts.word_bits:
            words[..., word + 1] |= code >> (facts.word_bits - shift)

    def trim(self, words: Tensor, facts: WordLayout, to: ElementFormat, length: int) -> Tensor:
        return words


class HighNibbleFirst(Pack):
    """The first code goes into the upper end of its word."""

    def place(self, i: int, to: ElementFormat, facts: WordLayout) -> int:
        place = super().place(i, to, facts)
        if facts.is_dense and facts.word_bits % to.bits:
            return place
        word, shift = divmod(place, facts.word_bits)
        return word * facts.word_bits + facts.word_bits // to.bits * to.bits - to.bits - shift


class NegativeCodesSpill(Pack):
    """Negative codes are not masked: their sign bits overwrite the codes above them."""

    def kept(self, code: Tensor, to: ElementFormat, facts: WordLayout) -> Tensor:
        return code if isinstance(to, IntFormat) and to.is_signed else super().kept(code, to, facts)


class LastWordDropped(Pack):
    """A last word that is not full is not written."""

    def trim(self, words: Tensor, facts: WordLayout, to: ElementFormat, length: int) -> Tensor:
        if length * to.bits % facts.word_bits and words.shape[-1]:
            words = words.clone()
            words[..., -1] = 0
        return words


class LastWordOfUnitDropped(Pack):
    """Of every run of words that codes straddle, the last one keeps only codes that begin in it."""

    def put(self, words: Tensor, code: Tensor, i: int, to: ElementFormat, facts: WordLayout) -> None:
        word, shift = divmod(self.place(i, to, facts), facts.word_bits)
        words[..., word] |= (code << shift) & ((1 << facts.word_bits) - 1)


class WrongAxis(Pack):
    """Codes are packed along the other axis of a square part: rows are read as columns."""

    def lines(self, codes: Tensor, axis: int) -> Tensor:
        found = super().lines(codes, axis)
        return found.reshape(found.shape[::-1]).T if found.ndim == 2 else found


class AwqOrderInverted(Pack):
    """The order of AWQ is applied the wrong way round."""

    source = "https://github.com/casper-hansen/AutoAWQ: pack and unpack orders are inverse of each other"

    def place(self, i: int, to: ElementFormat, facts: WordLayout) -> int:
        if facts.order is None:
            return super().place(i, to, facts)
        return i // 8 * 32 + 4 * facts.order[i % 8]


class AwqOrderIgnored(Pack):
    """Codes of AWQ are packed one after the other."""

    def place(self, i: int, to: ElementFormat, facts: WordLayout) -> int:
        return super().place(i, to, facts) if facts.order is None else i // 8 * 32 + 4 * (i % 8)


class OffsetForgotten(Pack):
    """Zero points of the first GPTQ format are kept as they are."""

    source = "https://github.com/AutoGPTQ/AutoGPTQ: checkpoint_format gptq and gptq_v2"

    def kept(self, code: Tensor, to: ElementFormat, facts: WordLayout) -> Tensor:
        return code % (1 << to.bits)


class OffsetSaturates(Pack):
    """A zero point of 0 is kept as 0, not as the greatest code."""

    def kept(self, code: Tensor, to: ElementFormat, facts: WordLayout) -> Tensor:
        return torch.where((code == 0) & (facts.offset != 0), 0, super().kept(code, to, facts))


class DenseForPadded(Pack):
    """Three-bit codes run on into the next word, where ten of them should fill one."""

    def __call__(self, codes: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1) -> Tensor:
        """Pack."""
        found = super().__call__(codes, fmt, layout=layout, axis=axis)
        if layout is not PackLayout.INT32 or 32 % get_element_format(fmt).bits == 0:
            return found
        dense = super().__call__(codes, fmt, layout=PackLayout.DENSE_INT32, axis=axis)
        return dense if dense.shape == found.shape else torch.cat([dense, found.narrow(axis, 0, 1)], axis)


class FillIsOnes(Pack):
    """Bits that no code owns are set."""

    def trim(self, words: Tensor, facts: WordLayout, to: ElementFormat, length: int) -> Tensor:
        rest = length * to.bits % facts.word_bits
        if rest and words.shape[-1] and facts.is_dense:
            words = words.clone()
            words[..., -1] |= ((1 << facts.word_bits) - 1) >> rest << rest
        return words


class PackByColumns(Kernel):
    """Packs one line after the other."""

    op = "pack"
    is_right = True

    def __call__(self, codes: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1) -> Tensor:
        """Pack."""
        lines = codes.movedim(axis, 0).flatten(1)
        columns = [pack(lines[:, i], fmt, layout=layout) for i in range(lines.shape[1])]
        packed = torch.stack(columns, 1).view(-1, *codes.movedim(axis, 0).shape[1:])
        return packed.movedim(0, axis).contiguous()


class _Unpack(Kernel):
    op = "unpack"

    def __call__(self, packed: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1, length: int) -> Tensor:
        """Unpack."""
        found = get_format(fmt)
        element = found.element if isinstance(found, BlockFormat) else found
        codes = unpack(packed, fmt, layout=layout, axis=axis, length=length)
        return self.change(codes, element, layout, axis)

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        return codes


class SignNotExtended(_Unpack):
    """Narrow signed codes come out as unsigned numbers."""

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        is_narrow = codes.dtype is torch.int8 and fmt.bits < 8
        return codes & (fmt.num_codes - 1) if is_narrow else codes


class UnpackNibblesSwapped(_Unpack):
    """Neighbouring codes change places."""

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        order = [i ^ 1 if i ^ 1 < codes.shape[axis] else i for i in range(codes.shape[axis])]
        return codes.index_select(axis, torch.tensor(order, dtype=torch.int64))


class ShiftBringsSign(_Unpack):
    """The shift of a negative word is arithmetic and not masked: the last code of a word is wrong."""

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        if LAYOUTS[layout].word_bits != 32 or codes.dtype is not torch.uint8 or 32 % fmt.bits:
            return codes
        each = 32 // fmt.bits
        last = (torch.arange(codes.shape[axis]) % each == each - 1).view(
            [-1 if d == axis % codes.ndim else 1 for d in range(codes.ndim)]
        )
        return torch.where(last & (codes >> (fmt.bits - 1) > 0), codes | (256 - fmt.num_codes), codes)


class StraddlingCodesCut(_Unpack):
    """A code that begins in one byte and ends in the next lacks its upper bits."""

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        facts = LAYOUTS[layout]
        if not facts.is_dense or facts.word_bits % fmt.bits == 0:
            return codes
        unit, _ = facts.unit(fmt.bits)
        held = [min(fmt.bits, facts.word_bits - place % facts.word_bits) for place in facts.places(fmt.bits)]
        mask = torch.tensor([(1 << held[i % unit]) - 1 for i in range(codes.shape[axis])], dtype=torch.uint8)
        shape = [-1 if d == axis % codes.ndim else 1 for d in range(codes.ndim)]
        return (codes.view(torch.uint8) & mask.view(shape)).view(codes.dtype)


class OffsetWraps(_Unpack):
    """A zero point that is kept as all ones comes out as 2**bits, not as 0."""

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        return torch.where(codes == 0, fmt.num_codes % 256, codes) if LAYOUTS[layout].offset and fmt.bits < 8 else codes


class TailOfLastWordZero(_Unpack):
    """Codes of a last word that is not full are not read."""

    def change(self, codes: Tensor, fmt: ElementFormat, layout: PackLayout, axis: int) -> Tensor:
        rest = codes.shape[axis] % max(LAYOUTS[layout].word_bits // fmt.bits, 1)
        if not rest:
            return codes
        kept = codes.clone()
        kept.narrow(axis, codes.shape[axis] - rest, rest).zero_()
        return kept


class UnpackByShift(_Unpack):
    """Looks up the bits of every code as places of a stream."""

    is_right = True

    def __call__(self, packed: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1, length: int) -> Tensor:
        """Unpack."""
        to, facts = get_element_format(fmt), LAYOUTS[layout]
        words = packed.movedim(axis, -1).to(torch.int64) % (1 << facts.word_bits)
        bits = torch.stack([(words >> i) & 1 for i in range(facts.word_bits)], -1).flatten(-2)
        starts = torch.tensor([Pack().place(i, to, facts) for i in range(length)], dtype=torch.int64)
        codes = sum((bits[..., starts + b] << b for b in range(to.bits)), torch.zeros(*words.shape[:-1], length).long())
        codes = (codes - facts.offset) % (1 << to.bits)
        if isinstance(to, IntFormat) and to.is_signed:
            codes = torch.where(codes > to.max_code, codes - to.num_codes, codes).to(torch.int8)
        return codes.to(torch.int8 if codes.dtype is torch.int8 else torch.uint8).movedim(-1, axis).contiguous()
