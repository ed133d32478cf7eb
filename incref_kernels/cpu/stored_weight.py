"""A weight as it is stored, read row by row by compiled code: multiplied with a few rows, or dequantized."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from incref.formats import BlockFormat, Format
from incref.numerics.granularity import Granularity, per_group
from incref_kernels.cpu.jit.code import body_key, compiled
from incref_kernels.cpu.jit.ports import Kind, Port
from incref_kernels.cpu.jit.threads import Work, run_in_parts
from incref_kernels.cpu.jit.weight_loops import SIZES, RowsUse, module_text
from incref_kernels.cpu.launch import why_not_format
from incref_kernels.cpu.tiles.words import dequantize_words_tile

__all__ = ["StoredWeight", "read_weight"]

_WORD_BITS = 8
# Words of a tile: one or two registers of float32, whatever the processor has.
_LANES = (16, 8)
# Rows of x whose sums stay in registers.
_MOST_ROWS = 4


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
    """

    fmt: Format
    shape: tuple[int, int]
    block: tuple[int, int]
    lanes: int
    places: int

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
        for start in range(0, x.shape[0], _MOST_ROWS):
            part = x[start : start + _MOST_ROWS]
            use = self._use(part.shape[0], torch.float32)
            self._run(use, [*weight, part, out[start:]], range(self.shape[0]), rounded, self.shape[0])

    def dequantize_(self, out: Tensor, weight: Sequence[Tensor], rows: range, rounded: torch.dtype) -> None:
        """Write the values of rows, in the order of arranged columns.

        Args:
            out: float32, or `rounded`, [rows, K].
            weight: its tensors.
            rows: which.
            rounded: what values are rounded to.
        """
        use = self._use(0, out.dtype)
        self._run(use, [*weight, out], rows, rounded, self.shape[1])

    def _use(self, rows: int, dtype: torch.dtype) -> RowsUse:
        is_block = self.block[1] == self.lanes * self.places
        return RowsUse(rows=rows, lanes=self.lanes, places=self.places, tile_is_block=is_block, dtype=dtype)

    def _run(self, use: RowsUse, tensors: Sequence[Tensor], rows: range, rounded: torch.dtype, out_step: int) -> None:
        scales = tensors[1 : -2 if use.rows else -1]
        # Of a block format, what follows the scales is that of the tensor.
        kinds = [Kind.WHOLE if i and isinstance(self.fmt, BlockFormat) else Kind.SCALE for i in range(len(scales))]
        ports = tuple(Port(kind=kind, dtype=scale.dtype) for kind, scale in zip(kinds, scales, strict=True))
        code = _compiled(self.fmt, tensors[0].dtype, ports, use, rounded)
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
    body = partial(dequantize_words_tile, fmt=fmt, places=use.places, rounded=rounded, dtype=use.dtype)
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
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    if why_not_format(element) is not None or not shape[0] or (is_packed and _WORD_BITS % element.bits):
        return None
    places = _WORD_BITS // element.bits if is_packed else 1
    granularity = per_group(fmt.block_size) if isinstance(fmt, BlockFormat) else granularity
    rows, columns = granularity.block_shape(shape)
    for lanes in _LANES:
        if shape[1] % (lanes * places) == columns % (lanes * places) == 0:
            return StoredWeight(fmt=fmt, shape=shape, block=(rows, columns), lanes=lanes, places=places)
    return None
