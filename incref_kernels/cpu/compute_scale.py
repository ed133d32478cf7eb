"""`compute_scale` in a kernel where a tile holds a block; else magnitudes by kernels, then scales by the reference."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import CodebookFormat, Format, ScaleRule, SymmetricScale
from incref.numerics.amax import finite_magnitudes, reduce_amax
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import Patterns, float_format_of, patterns_of
from incref.numerics.scaled import compute_dtype
from incref.numerics.scales import float_scale
from incref.ops.compute_scale import scale_of_amax
from incref.ops.encode import get_element_format
from incref_kernels.blocks import Blocks, blocks_of
from incref_kernels.cpu.found import empty_scales, fits_tile, run_found
from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.jit.ports import Kind, Port, TileShape
from incref_kernels.cpu.launch import element, why_not_tensors
from incref_kernels.cpu.scaled import matrices_of, why_not_blocks
from incref_kernels.cpu.tiles.found import Finding, find_scale_tile

__all__ = ["KERNEL", "compute_scale", "tensor_scale"]

_ALONG = TileShape(rows=0, lanes=128)
_NARROW = TileShape(rows=0, lanes=32)
_ACROSS = TileShape(rows=32, lanes=8)

Select = Callable[[Patterns], Tensor]


def compute_scale(
    x: Tensor,
    fmt: str | Format,
    granularity: Granularity = PER_TENSOR,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `incref.ops.compute_scale` with kernels; a tensor that is not contiguous is read as the reference does."""
    target = get_element_format(fmt)
    float_format_of(x.dtype)
    if fits_tile(granularity, x):
        find = Finding(fmt=target, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        scales = empty_scales(x, granularity, find)
        run_found(partial(find_scale_tile, find=find), granularity, [x], scales=scales)
        return scales[0] if symmetric else (scales[0], scales[1])
    return scale_of_amax(
        lambda select: _amax(x, granularity, select).view(granularity.scale_shape(x.shape)),
        target,
        compute_dtype(x.dtype),
        rule=rule,
        symmetric=symmetric,
        symmetric_scale=symmetric_scale,
    )


def tensor_scale(x: Tensor, limit: float) -> Tensor:
    """Compute `amax / limit` over the finite elements of x, float32 or narrower, as `nvfp4_tensor_scale` does."""
    amax = _amax(x, PER_TENSOR, finite_magnitudes).view(())
    return float_scale(amax.view(torch.float32), limit, ScaleRule.DIVIDE)


def _amax(x: Tensor, granularity: Granularity, select: Select) -> Tensor:
    """Largest selected magnitude pattern of every block; 0 for a block without elements."""
    dtype = torch.int64 if x.dtype is torch.float64 else torch.int32
    if x.numel() == 0:
        return torch.zeros(granularity.scale_shape(x.shape), dtype=dtype)
    if not x.is_contiguous():
        return reduce_amax(x, granularity.block_shape(x.shape), select)
    blocks = blocks_of(granularity, x.shape)
    assert blocks is not None
    body = partial(_amax_tile, select=select)
    # No tile may lie in two blocks.
    is_one_block = blocks.row_extent >= blocks.rows
    if blocks.column_extent == 1 and (is_one_block or blocks.row_extent % _ACROSS.rows == 0):
        return _amax_across(x, blocks, body, dtype)
    shape = _ALONG if blocks.column_extent >= _ALONG.lanes else _NARROW
    tiles = -(-blocks.column_extent // shape.lanes)
    found = torch.empty((blocks.outer, blocks.rows, blocks.column_blocks, tiles), dtype=dtype)
    kernel = TileKernel(
        body=body, inputs=(element(x.dtype),), outputs=(Port(kind=Kind.TILE, dtype=dtype),), shape=shape
    )
    kernel.launch([x, found], matrices_of(blocks))
    return _over_rows(found.amax(-1), blocks.row_extent)


def _amax_across(x: Tensor, blocks: Blocks, body: "partial[Tensor]", dtype: torch.dtype) -> Tensor:
    """Where every column has a block of its own: vectors lie along rows."""
    parts = -(-blocks.rows // _ACROSS.rows)
    found = torch.empty((blocks.outer, parts, blocks.columns), dtype=dtype)
    kernel = TileKernel(
        body=partial(body, dim=0),
        inputs=(element(x.dtype),),
        outputs=(Port(kind=Kind.TILE, dtype=dtype),),
        shape=_ACROSS,
    )
    kernel.launch([x, found], Matrices(matrices=blocks.outer, length=blocks.rows, inner=blocks.columns))
    return _over_rows(found, -(-blocks.row_extent // _ACROSS.rows))


def _over_rows(amax: Tensor, extent: int) -> Tensor:
    """Reduce every `extent` rows of [outer, rows, columns] to one."""
    if extent == 1:
        return amax
    fill = -amax.shape[1] % extent
    if fill:
        amax = torch.nn.functional.pad(amax, (0, 0, 0, fill))
    parts: Tensor = amax.unflatten(1, (-1, extent))
    return parts.amax(2)


def _amax_tile(x: Tensor, *, select: Select, dim: int = -1) -> Tensor:
    return select(patterns_of(x)).amax(dim, keepdim=True)


def why_not(x: Tensor, fmt: str | Format, granularity: Granularity = PER_TENSOR, **_options: object) -> str | None:
    """Say which arguments the kernels can't take."""
    if isinstance(get_element_format(fmt), CodebookFormat):
        return "it leaves codebooks to the reference"
    return why_not_tensors({"x": x}) or why_not_blocks(granularity, x)


KERNEL = Kernel(fn=compute_scale, why_not=why_not)
