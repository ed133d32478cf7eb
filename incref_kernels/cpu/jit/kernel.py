"""A function on tiles, compiled for this processor, and its launch."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from incref_kernels.cpu.jit.code import body_key, compiled
from incref_kernels.cpu.jit.loops import SIZES, module_text
from incref_kernels.cpu.jit.ports import Port, TileShape
from incref_kernels.cpu.jit.threads import Work, run_in_parts

__all__ = ["Matrices", "TileKernel"]

Body = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """Contiguous tensors of elements seen as [matrices, length, inner], and what shares a scale in them.

    Attributes:
        matrices: how many.
        length: rows of a matrix; 1 where tiles are pieces of rows.
        inner: columns.
        extent: columns of a block; None for all.
        rows: rows that the blocks of a `Granularity` are cut from.
        row_extent: rows of a block.
    """

    matrices: int
    length: int
    inner: int
    extent: int | None = None
    rows: int = 1
    row_extent: int = 1


@dataclass(frozen=True, kw_only=True)
class TileKernel:
    """A kernel: `body` applied to every tile.

    Attributes:
        body: a module's function, or a `partial` of one whose arguments by name have a complete `repr`. It is traced
            once.
        inputs: of the body, in its order.
        outputs: of the body, in its order.
        shape: of a tile.
    """

    body: "partial[Tensor | tuple[Tensor, ...]] | partial[Tensor] | partial[tuple[Tensor, ...]]"
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    shape: TileShape

    def launch(self, tensors: Sequence[Tensor], over: Matrices) -> bool:
        """Run the kernel on contiguous tensors, inputs first.

        Returns:
            Whether an element was lost: the reference refuses it.

        Raises:
            FlushDenormalError: if a thread flushes subnormals.
        """
        height, segment = max(self.shape.rows, 1), self.shape.segment
        extent = over.inner if over.extent is None else over.extent
        row_blocks = -(-over.length // height)
        elements = over.matrices * over.length * over.inner
        if not elements:
            return False
        per_block, blocks = -(-extent // segment), -(-over.inner // extent)
        units = over.matrices * row_blocks * blocks * per_block
        values = {
            "length": over.length,
            "inner": over.inner,
            "extent": extent,
            "segment": segment,
            "per_block": per_block,
            "blocks": blocks,
            "row_blocks": row_blocks,
            "rows": over.rows,
            "row_extent": over.row_extent,
        }
        addresses = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        sizes = (ctypes.c_int64 * len(SIZES))(*(values[name] for name in SIZES))
        work = Work(arguments=ctypes.addressof(addresses), sizes=ctypes.addressof(sizes), units=units)
        return run_in_parts(self._compiled(), work, elements)

    def _compiled(self) -> int:
        key = (body_key(self.body), self.inputs, self.outputs, self.shape)
        return compiled(key, lambda: module_text(self.body, self.inputs, self.outputs, self.shape))
