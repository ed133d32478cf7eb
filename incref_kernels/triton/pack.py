"""`pack` and `unpack` in one pass over memory."""

import math

import triton
import triton.language as tl
from torch import Tensor, empty

from incref.backends.backend import Kernel
from incref.formats import ElementFormat, Format, IntFormat
from incref.formats.layouts import LAYOUTS, PackLayout, WordLayout
from incref.numerics.codes import code_dtype
from incref.numerics.packing import word_dtype
from incref.ops.pack import get_packed_format, require_dimension, require_in_range, require_words
from incref_kernels.triton.launch import launch, lost_flag, why_not_tensors
from incref_kernels.triton.sizes import cdiv
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["PACK", "TILE", "UNPACK", "pack", "pack_kernel", "unpack", "unpack_kernel"]

TILE = Tile(elements=1024)


@triton.constexpr_function
def _places(facts: WordLayout) -> tuple[int, ...]:
    """For each code of a word, its place, counted from bit 0; none for a layout in ascending order."""
    return () if facts.order is None else tuple(facts.order.index(code) for code in range(len(facts.order)))


@triton.constexpr_function
def _codes_of_word(facts: WordLayout, bits: int) -> int:
    """How many codes may stand in a word, whole or in part."""
    whole = facts.word_bits % bits == 0 or not facts.is_dense
    return facts.word_bits // bits if whole else facts.word_bits // bits + 2


@triton.constexpr_function
def _is_split(facts: WordLayout, bits: int) -> bool:
    """Whether a code may begin in one word and end in the next."""
    return facts.is_dense and facts.word_bits % bits != 0


@triton.constexpr_function
def _least(fmt: ElementFormat) -> int:
    return fmt.min_code if isinstance(fmt, IntFormat) else 0


@triton.constexpr_function
def _greatest(fmt: ElementFormat) -> int:
    return fmt.max_code if isinstance(fmt, IntFormat) else fmt.num_codes - 1


@triton.constexpr_function
def _is_signed(fmt: ElementFormat) -> bool:
    return isinstance(fmt, IntFormat) and fmt.is_signed


@triton.jit
def _place(programs: tl.tensor, size: tl.tensor, inner: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """Where the BLOCK elements of a program are in a tensor [outer, size, inner], and which are there.

    Each of the outer rows takes `programs` programs.
    """
    row = (tl.program_id(0) // programs).to(tl.int64)
    start = (tl.program_id(0) % programs).to(tl.int64) * BLOCK
    first = start // inner
    lane = (start - first * inner).to(tl.int32) + tl.arange(0, BLOCK)
    index = first + lane // inner
    return row, index, lane % inner, index < size


@triton.constexpr_function
def _repeated(code: int, fmt: ElementFormat, facts: WordLayout) -> int:
    """A word of equal codes, as a signed integer."""
    word = sum(code << place for place in range(0, facts.word_bits, fmt.bits))
    return word - (1 << facts.word_bits) if word >> (facts.word_bits - 1) else word


@triton.jit
def _add_offset(
    word: tl.tensor, index: tl.tensor, length: tl.tensor, fmt: tl.constexpr, facts: tl.constexpr
) -> tl.tensor:
    """Add the offset to every code of a word, modulo the number of codes; what is filled up stays 0.

    All at once, without carries from a code to the next: the highest bit of each is added apart. One by one in 16 bits,
    ptxas 12.8 and 12.9 lose the offset of every second code on sm_90 (`add.s16x2` with an undefined upper half).
    """
    high: tl.constexpr = _repeated(fmt.num_codes // 2, fmt, facts)
    offset: tl.constexpr = _repeated(facts.offset % fmt.num_codes, fmt, facts)
    moved = ((word & ~high) + (offset & ~high)) ^ ((word ^ offset) & high)
    codes: tl.constexpr = facts.word_bits // fmt.bits
    there = tl.minimum(length - index * codes, codes).to(tl.int32)
    kept = tl.where(there == codes, -1, (1 << (tl.minimum(there, codes - 1) * fmt.bits)) - 1)
    return moved & kept


@triton.jit
def pack_kernel(
    codes_ptr: tl.tensor,
    words_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    programs: tl.tensor,
    length: tl.tensor,
    words: tl.tensor,
    inner: tl.tensor,
    fmt: tl.constexpr,
    facts: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Make BLOCK words of a tensor [outer, words, inner] out of codes [outer, length, inner]."""
    row, index, column, mask = _place(programs, words, inner, BLOCK)
    base = codes_ptr + row * length * inner + column
    bits: tl.constexpr = fmt.bits
    size: tl.constexpr = facts.word_bits
    order: tl.constexpr = _places(facts)
    split: tl.constexpr = _is_split(facts, bits)
    word = tl.zeros([BLOCK], tl.int32)
    is_lost = mask & (column < 0)
    for t in tl.static_range(_codes_of_word(facts, bits)):
        if split:
            # The first code that has a bit in the word; it may begin before it.
            code = index * size // bits + t
            shift = (code * bits - index * size).to(tl.int32)
        else:
            code = index * (size // bits) + t
            shift = bits * (order[t] if len(order) else t)
        is_there = mask & (code < length)
        loaded = tl.load(base + code * inner, mask=is_there, other=0).to(tl.int32)
        is_lost = is_lost | (is_there & ((loaded < _least(fmt)) | (loaded > _greatest(fmt))))
        field = loaded & (fmt.num_codes - 1)
        if split:
            if facts.offset != 0:
                # What is filled up stays 0.
                field = tl.where(is_there, (field + facts.offset) & (fmt.num_codes - 1), 0)
            begins = field << tl.minimum(tl.maximum(shift, 0), 31)
            part = tl.where(shift < 0, field >> tl.minimum(tl.maximum(-shift, 0), 31), begins)
            word = word | tl.where(shift < size, part, 0)
        else:
            word = word | (field << shift)
    if facts.offset != 0 and not split:
        word = _add_offset(word, index, length, fmt, facts)
    tl.store(words_ptr + (row * words + index) * inner + column, word.to(words_ptr.dtype.element_ty), mask=mask)
    if lost_ptr is not None:
        tl.store(lost_ptr, 1, mask=tl.max(is_lost.to(tl.int32), axis=0) != 0)


@triton.jit
def unpack_kernel(
    words_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    programs: tl.tensor,
    length: tl.tensor,
    words: tl.tensor,
    inner: tl.tensor,
    fmt: tl.constexpr,
    facts: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Take BLOCK codes of a tensor [outer, length, inner] out of words [outer, words, inner]."""
    row, code, column, mask = _place(programs, length, inner, BLOCK)
    base = words_ptr + row * words * inner + column
    bits: tl.constexpr = fmt.bits
    size: tl.constexpr = facts.word_bits
    order: tl.constexpr = _places(facts)
    if _is_split(facts, bits):
        index = code * bits // size
        shift = (code * bits - index * size).to(tl.int32)
    else:
        index = code // (size // bits)
        lane = (code - index * (size // bits)).to(tl.int32)
        shift = lane * bits
        if len(order):
            for t in tl.static_range(len(order)):
                shift = tl.where(lane == t, bits * order[t], shift)
    word = _word(base + index * inner, mask, size)
    field = word >> shift.to(tl.uint32)
    if _is_split(facts, bits):
        follows = mask & (shift + bits > size)
        rest = _word(base + (index + 1) * inner, follows, size)
        field = field | tl.where(follows, rest << tl.minimum(size - shift, 31).to(tl.uint32), 0)
    found = field.to(tl.int32, bitcast=True)
    if facts.offset != 0:
        found = found - facts.offset
    found = found & (fmt.num_codes - 1)
    if _is_signed(fmt):
        found = (found << (32 - bits)) >> (32 - bits)
    tl.store(codes_ptr + (row * length + code) * inner + column, found.to(codes_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _word(at: tl.tensor, mask: tl.tensor, size: tl.constexpr) -> tl.tensor:
    """Load words without their sign."""
    word = tl.load(at, mask=mask, other=0).to(tl.int32)
    if size == 8:
        word = word & 0xFF
    return word.to(tl.uint32, bitcast=True)


def pack(codes: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1, tile: Tile | None = None) -> Tensor:
    """Run `incref.ops.pack` in a kernel; a tensor that is not contiguous is copied first.

    The call waits for the kernel to know whether a code was outside the range of formats with less than 8 bits.
    """
    element, facts = get_packed_format(fmt, layout), LAYOUTS[layout]
    if codes.dtype is not code_dtype(element):
        raise TypeError(f"codes of {element.name} must be {code_dtype(element)}, got {codes.dtype}")
    axis = require_dimension(codes, axis)
    outer, length, inner = _sides(codes, axis)
    words = facts.num_words(element.bits, length)
    packed = empty((*codes.shape[:axis], words, *codes.shape[axis + 1 :]), dtype=word_dtype(facts), device=codes.device)
    outer, length, words = _joined(outer, length, words, inner, facts, element.bits)
    lost = lost_flag(codes.device, may_refuse=element.bits < 8)
    tile = tile or choose(TILE, codes)
    programs = cdiv(words * inner, tile.elements)
    launch(
        pack_kernel,
        outer * programs,
        codes.contiguous(),
        packed,
        lost,
        programs,
        length,
        words,
        inner,
        device=codes.device,
        tile=tile,
        fmt=element,
        facts=facts,
        BLOCK=tile.elements,
    )
    if lost is not None and lost.item():
        require_in_range(codes, element)
    return packed


def unpack(
    packed: Tensor,
    fmt: str | Format,
    *,
    layout: PackLayout,
    axis: int = -1,
    length: int,
    tile: Tile | None = None,
) -> Tensor:
    """Run `incref.ops.unpack` in a kernel; a tensor that is not contiguous is copied first."""
    element, facts = get_packed_format(fmt, layout), LAYOUTS[layout]
    axis = require_dimension(packed, axis)
    require_words(packed, element, layout, axis, length)
    outer, words, inner = _sides(packed, axis)
    outer, run, words = _joined(outer, length, words, inner, facts, element.bits)
    shape = (*packed.shape[:axis], length, *packed.shape[axis + 1 :])
    codes = empty(shape, dtype=code_dtype(element), device=packed.device)
    tile = tile or choose(TILE, packed)
    programs = cdiv(run * inner, tile.elements)
    launch(
        unpack_kernel,
        outer * programs,
        packed.contiguous(),
        codes,
        programs,
        run,
        words,
        inner,
        device=packed.device,
        tile=tile,
        fmt=element,
        facts=facts,
        BLOCK=tile.elements,
    )
    return codes


def _sides(x: Tensor, axis: int) -> tuple[int, int, int]:
    """Extents before, along and after an axis."""
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def _joined(outer: int, length: int, words: int, inner: int, facts: WordLayout, bits: int) -> tuple[int, int, int]:
    """Rows, codes and words of a row; where whole units follow each other across rows, as if there were one row."""
    if inner != 1 or length % facts.unit(bits)[0]:
        return outer, length, words
    return 1, outer * length, outer * words


def why_not(x: Tensor, *_args: object, **_options: object) -> str | None:
    """Say which arguments the kernels can't take."""
    return why_not_tensors({"x": x})


PACK = Kernel(fn=pack, why_not=why_not)
UNPACK = Kernel(fn=unpack, why_not=why_not)
