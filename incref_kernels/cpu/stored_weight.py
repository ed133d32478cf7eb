"""A weight as it is stored, read row by row by compiled code: multiplied with a few rows, or dequantized."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from incref.formats import BlockFormat, ElementFormat, Format, IntFormat
from incref.numerics.granularity import Granularity, per_group
from incref_kernels.cpu.jit.code import body_key, compiled
from incref_kernels.cpu.jit.ports import Kind, Port
from incref_kernels.cpu.jit.threads import Work, run_in_parts
from incref_kernels.cpu.jit.weight_loops import SIZES, RowsUse, module_text
from incref_kernels.cpu.launch import why_not_format
from incref_kernels.cpu.processor import has_look_up
from incref_kernels.cpu.tiles.words import dequantize_words_tile

__all__ = ["StoredWeight", "read_weight"]

_WORD_BITS = 8
# Codes of so many bits are looked up in a register, whose lanes they number.
_TABLE_BITS = 4
# Rows of the weight that are multiplied with several of x at once. For one alone the memory is read in order.
_TOGETHER = 2
# Words that hold several of them, the longest first.
_TABLE_WORDS = (torch.int32, torch.int16, torch.uint8)
# Words of a tile: one or two registers of float32, whatever the processor has.
_LANES = (16, 8)
# Rows of x whose sums stay in registers: of 16, and of 32, half of which sums fill.
_MOST_ROWS = 4
_MOST_ROWS_LOOKED_UP = 8


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """How compiled code reads the rows of a weight.

    The tensors of a weight, which its functions take, are contiguous: words [N, bytes], scales, and the zero point or
    the scale of the tensor where there is one.

    Attributes:
        fmt: of the codes.
        shape: (N, K).
        block: which rows and columns share scales.
        lanes: words of a tile.
        places: codes in a word.
        words: dtype of a word that is looked up code by code; None to decode those that the tensor has.
    """

    fmt: Format
    shape: tuple[int, int]
    block: tuple[int, int]
    lanes: int
    places: int
    words: torch.dtype | None = None

    def arrange(self, x: Tensor) -> Tensor:
        """Give the columns of x [M, K] the order in which the codes of a row are read."""
        if self.places == 1:
            return x.contiguous()
        tiles = x.reshape(x.shape[0], -1, self.lanes, self.places)
        return tiles.transpose(2, 3).reshape(x.shape)

    def multiply_(self, out: Tensor, x: Tensor, weight: Sequence[Tensor], rounded: torch.dtype) -> None:
        """Write `x @ weight.T`.

        Args:
            out: float32 [M, N].
            x: float32 [M, K], arranged.
            weight: its tensors.
            rounded: what the dequantized weight is rounded to.
        """
        step = _MOST_ROWS if self.words is None else _MOST_ROWS_LOOKED_UP
        for start in range(0, x.shape[0], step):
            part = x[start : start + step]
            use = self._use(part.shape[0], torch.float32)
            self._run(use, [*weight, part, out[start:]], range(self.shape[0]), rounded, self.shape[0])

    def dequantize_(self, out: Tensor, weight: Sequence[Tensor], rows: range, rounded: torch.dtype) -> None:
        """Write the values of rows.

        Args:
            out: float32, or `rounded`, [rows, K].
            weight: its tensors.
            rows: which.
            rounded: what values are rounded to.
        """
        use = self._use(0, out.dtype)
        self._run(use, [*weight, out], rows, rounded, self.shape[1])

    def _use(self, rows: int, dtype: torch.dtype) -> RowsUse:
        element = _element_of(self.fmt)
        return RowsUse(
            rows=rows,
            together=_TOGETHER if rows > 1 and self.words is not None else 1,
            lanes=self.lanes,
            places=self.places,
            tile_is_block=self.block[1] == self.lanes * self.places,
            dtype=dtype,
            bits=element.bits,
            table=None if self.words is None else _table(element),
        )

    def _run(self, use: RowsUse, tensors: Sequence[Tensor], rows: range, rounded: torch.dtype, out_step: int) -> None:
        scales = tensors[1 : -2 if use.rows else -1]
        # Of a block format, what follows the scales is that of the tensor.
        kinds = [Kind.WHOLE if i and isinstance(self.fmt, BlockFormat) else Kind.SCALE for i in range(len(scales))]
        ports = tuple(Port(kind=kind, dtype=scale.dtype) for kind, scale in zip(kinds, scales, strict=True))
        code = _compiled(self.fmt, self.words or tensors[0].dtype, ports, use, rounded)
        addresses = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        per_tile = self.lanes * self.places
        values = {
            "first": rows.start,
            "tiles": self.shape[1] // per_tile,
            "block": self.block[1] // per_tile,
            "blocks": -(-self.shape[1] // self.block[1]),
            "row_extent": self.block[0],
            "out_step": out_step,
        }

        sizes = (ctypes.c_int64 * len(SIZES))(*(values[name] for name in SIZES))
        work = Work(arguments=ctypes.addressof(addresses), sizes=ctypes.addressof(sizes), units=len(rows))
        run_in_parts(code, work, len(rows) * self.shape[1])


def _compiled(fmt: Format, words: torch.dtype, scales: tuple[Port, ...], use: RowsUse, rounded: torch.dtype) -> int:
    places, dtype = (use.places, use.dtype) if use.table is None else (1, torch.float32)
    body = partial(dequantize_words_tile, fmt=fmt, places=places, rounded=rounded, dtype=dtype)
    return compiled((body_key(body), words, scales, use), lambda: module_text(body, words, scales, use))


@cache
def read_weight(
    fmt: Format, granularity: Granularity, shape: tuple[int, int], *, is_packed: bool
) -> StoredWeight | None:
    """Find how compiled code reads a weight.

    Args:
        fmt: of the codes.
        granularity: which share a scale; a block format has its own.
        shape: (N, K).
        is_packed: whether codes of fewer than 8 bits lie in a row without gaps.

    Returns:
        None if codes lie across bytes, or blocks end within a tile.
    """
    element = _element_of(fmt)
    if why_not_format(element) is not None or not shape[0] or (is_packed and _WORD_BITS % element.bits):
        return None
    places = _WORD_BITS // element.bits if is_packed else 1
    granularity = per_group(fmt.block_size) if isinstance(fmt, BlockFormat) else granularity
    rows, columns = granularity.block_shape(shape)
    if is_packed and element.bits <= _TABLE_BITS and has_look_up():
        lanes = 1 << _TABLE_BITS
        for words in _TABLE_WORDS:
            count = 8 * words.itemsize // element.bits
            if shape[1] % (lanes * count) == columns % (lanes * count) == 0:
                return StoredWeight(fmt=fmt, shape=shape, block=(rows, columns), lanes=lanes, places=count, words=words)
    for lanes in _LANES:
        if shape[1] % (lanes * places) == columns % (lanes * places) == 0:
            return StoredWeight(fmt=fmt, shape=shape, block=(rows, columns), lanes=lanes, places=places)
    return None


def _element_of(fmt: Format) -> ElementFormat:
    return fmt.element if isinstance(fmt, BlockFormat) else fmt


def _table(element: ElementFormat) -> tuple[int, ...]:
    """Which code the lowest bits mean; those above a code belong to the next one."""
    codes = [pattern & (element.num_codes - 1) for pattern in range(1 << _TABLE_BITS)]
    if isinstance(element, IntFormat) and element.is_signed:
        return tuple(code - element.num_codes if code > element.max_code else code for code in codes)
    return tuple(codes)
