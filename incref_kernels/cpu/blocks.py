"""Runs kernels on blocks that share a scale, along the last dimension or across rows."""

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor

from incref.formats import BlockFormat
from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.jit.ports import Kind, Port, TileShape

__all__ = ["run_blocks"]

# Elements that a step takes along blocks: the arithmetic of several scales shares vectors.
_ALONG = 128
# Vectors of a processor with 32 bytes in a register; those with 64 take two rows of a tile at once.
_COLUMNS = 8


def run_blocks(
    body: Callable[..., "Tensor | tuple[Tensor, ...]"],
    fmt: BlockFormat,
    axis: int,
    inputs: "list[tuple[Kind, Tensor]]",
    outputs: "list[tuple[Kind, Tensor]]",
) -> bool:
    """Apply `body` to every block along `axis` of contiguous tensors.

    Args:
        body: takes the inputs and gives the outputs; `dim` is along which dimension of a tile blocks lie.
        fmt: says how long they are.
        axis: of the first input.
        inputs: each with what belongs to a tile.
        outputs: likewise.

    Returns:
        Whether an element was lost.
    """
    shape = inputs[0][1].shape
    length, inner = shape[axis], math.prod(shape[axis + 1 :])
    is_along = inner == 1
    tile = _along(fmt.block_size) if is_along else TileShape(rows=fmt.block_size, lanes=_COLUMNS)
    kernel = TileKernel(
        body=partial(body, dim=-1 if is_along else 0),
        inputs=tuple(Port(kind=kind, dtype=tensor.dtype) for kind, tensor in inputs),
        outputs=tuple(Port(kind=kind, dtype=tensor.dtype) for kind, tensor in outputs),
        shape=tile,
    )
    outer = math.prod(shape[:axis])
    if not is_along:
        over = Matrices(matrices=outer, length=length, inner=inner)
    elif length % fmt.block_size == 0:
        # Whole blocks follow each other across rows, as if there were one row.
        over = Matrices(matrices=1, length=1, inner=outer * length)
    else:
        over = Matrices(matrices=outer, length=1, inner=length)
    return kernel.launch([tensor for _, tensor in (*inputs, *outputs)], over)


def _along(size: int) -> TileShape:
    return TileShape(rows=0, lanes=size, pieces=min(max(_ALONG // size, 1), size))
