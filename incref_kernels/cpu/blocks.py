"""Runs kernels on blocks that share a scale, along the last dimension or across rows."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from incref.numerics.amax import block_parts
from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.jit.ports import Kind, Port, TileShape
from incref_kernels.cpu.launch import PIECE_BYTES, are_contiguous

__all__ = ["run_blocks"]

# Bytes of an element of any input.
_WIDEST = 8
_ROWS = torch.contiguous_format
# Elements that a step takes along blocks: the arithmetic of several scales shares vectors.
_ALONG = 128
# Vectors of a processor with 32 bytes in a register; those with 64 take two rows of a tile at once.
_COLUMNS = 8


def run_blocks(
    body: Callable[..., "Tensor | tuple[Tensor, ...]"],
    size: int,
    axis: int,
    inputs: "list[tuple[Kind, Tensor]]",
    outputs: "list[tuple[Kind, Tensor]]",
) -> bool:
    """Apply `body` to every block along `axis`; tensors that are not contiguous are copied piece by piece.

    Args:
        body: takes the inputs and gives the outputs; `dim` is along which dimension of a tile blocks lie.
        size: how long they are.
        axis: of the first input.
        inputs: each with what belongs to a tile.
        outputs: likewise.

    Returns:
        Whether an element was lost.
    """
    if are_contiguous([tensor for _, tensor in (*inputs, *outputs)]):
        return _run(body, size, axis, inputs, outputs)
    shape = tuple(inputs[0][1].shape)
    extents = tuple(size if d == axis else 1 for d in range(len(shape)))
    lost = False
    for part, blocks, _ in block_parts(shape, extents, _WIDEST, limit=PIECE_BYTES):
        places = {Kind.ELEMENT: part, Kind.TILE: blocks}
        given = [(kind, tensor[places[kind]].contiguous() if kind in places else tensor) for kind, tensor in inputs]
        made = [(kind, torch.empty_like(tensor[places[kind]], memory_format=_ROWS)) for kind, tensor in outputs]
        lost |= _run(body, size, axis, given, made)
        for (kind, tensor), (_, values) in zip(outputs, made, strict=True):
            tensor[places[kind]] = values
    return lost


def _run(
    body: Callable[..., "Tensor | tuple[Tensor, ...]"],
    size: int,
    axis: int,
    inputs: "list[tuple[Kind, Tensor]]",
    outputs: "list[tuple[Kind, Tensor]]",
) -> bool:
    shape = inputs[0][1].shape
    length, inner = shape[axis], math.prod(shape[axis + 1 :])
    is_along = inner == 1
    tile = _along(size) if is_along else TileShape(rows=size, lanes=_COLUMNS)
    kernel = TileKernel(
        body=partial(body, dim=-1 if is_along else 0),
        inputs=tuple(Port(kind=kind, dtype=tensor.dtype) for kind, tensor in inputs),
        outputs=tuple(Port(kind=kind, dtype=tensor.dtype) for kind, tensor in outputs),
        shape=tile,
    )
    outer = math.prod(shape[:axis])
    if not is_along:
        over = Matrices(matrices=outer, length=length, inner=inner)
    elif length % size == 0:
        # Whole blocks follow each other across rows, as if there were one row.
        over = Matrices(matrices=1, length=1, inner=outer * length)
    else:
        over = Matrices(matrices=outer, length=1, inner=length)
    return kernel.launch([tensor for _, tensor in (*inputs, *outputs)], over)


def _along(size: int) -> TileShape:
    return TileShape(rows=0, lanes=size, pieces=min(max(_ALONG // size, 1), size))
