"""Runs kernels that divide by scales of blocks, or multiply with them."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from incref.numerics.amax import block_parts
from incref.numerics.granularity import Granularity
from incref_kernels.blocks import Blocks, blocks_of
from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.jit.ports import Kind, Port
from incref_kernels.cpu.launch import ELEMENTS, PIECE_BYTES, are_contiguous, element

__all__ = ["run_scaled", "why_not_blocks"]


def run_scaled(
    body: "partial[Tensor]",
    x: Tensor,
    scales: Sequence[Tensor | None],
    out: Tensor,
    granularity: Granularity,
    *,
    random_bits: Tensor | None = None,
) -> bool:
    """Apply `body` to every element and what belongs to its block.

    Args:
        body: takes those of x, scales and random bits that are there.
        x: the elements, values or codes.
        scales: what there is one of for each block, or None.
        out: what is written; x, or memory of its own.
        granularity: which elements form a block.
        random_bits: in the shape of x, or None.

    Returns:
        Whether an element was lost.
    """
    given = [scale.contiguous() for scale in scales if scale is not None]
    if are_contiguous([x, random_bits, out]):
        return _run(body, x, given, out, granularity, random_bits=random_bits)
    lost = False
    extents = granularity.block_shape(x.shape)
    for part, rows, inner in block_parts(tuple(x.shape), extents, max(x.itemsize, 4), limit=PIECE_BYTES):
        piece = x[part].contiguous()
        made = torch.empty(piece.shape, dtype=out.dtype)
        random = None if random_bits is None else random_bits[part].contiguous()
        chosen = [scale.view(_with_ones(scale, x.ndim))[rows].contiguous() for scale in given]
        lost |= _run(body, piece, chosen, made, Granularity(inner), random_bits=random)
        out[part] = made
    return lost


def _with_ones(scale: Tensor, ndim: int) -> tuple[int, ...]:
    return tuple(scale.shape) if scale.ndim == ndim else (1,) * ndim


def _run(
    body: "partial[Tensor]",
    x: Tensor,
    scales: Sequence[Tensor],
    out: Tensor,
    granularity: Granularity,
    *,
    random_bits: Tensor | None,
) -> bool:
    blocks = blocks_of(granularity, x.shape)
    assert blocks is not None
    # Where every column has a scale of its own they lie side by side as elements do.
    kind = Kind.COLUMN if blocks.column_extent == 1 and blocks.columns > 1 else Kind.SCALE
    tensors = [x, *scales, *([] if random_bits is None else [random_bits])]
    ports = [element(x.dtype), *(Port(kind=kind, dtype=scale.dtype) for scale in scales)]
    kernel = TileKernel(
        body=body,
        inputs=(*ports, *(element(tensor.dtype) for tensor in tensors[len(ports) :])),
        outputs=(element(out.dtype),),
        shape=ELEMENTS,
    )
    return kernel.launch([*tensors, out], matrices_of(blocks, by_column=kind is Kind.COLUMN))


def matrices_of(blocks: Blocks, *, by_column: bool = False) -> Matrices:
    """Rows of elements, in blocks of columns, as kernels take them."""
    return Matrices(
        matrices=blocks.outer * blocks.rows,
        length=1,
        inner=blocks.columns,
        extent=None if by_column else min(blocks.column_extent, max(blocks.columns, 1)),
        rows=blocks.rows,
        row_extent=blocks.row_extent,
    )


def why_not_blocks(granularity: Granularity, x: Tensor) -> str | None:
    """Say which blocks the kernels can't take."""
    if blocks_of(granularity, x.shape) is not None:
        return None
    return f"it takes blocks cut along at most two neighbouring dimensions, got {granularity} of {tuple(x.shape)}"
