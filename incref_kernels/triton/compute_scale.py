"""`compute_scale`: largest magnitudes of blocks by kernels that reduce along one axis, then the scales of those."""

import math

import torch
import triton
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import CodebookFormat, Format, IntFormat, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled import compute_dtype
from incref.numerics.scales import grid_limit
from incref.ops.encode import get_element_format
from incref_kernels.blocks import Blocks, blocks_of
from incref_kernels.triton.device.amax import ALL, FINITE, NEGATIVE, POSITIVE, amax_across_kernel, amax_along_kernel
from incref_kernels.triton.device.facts import working_layout
from incref_kernels.triton.device.scale_kernels import affine_scale_kernel, float_scale_kernel, power_scale_kernel
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_tensors
from incref_kernels.triton.sizes import cdiv, next_power_of_2
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["KERNEL", "TILE", "TILE_SCALES", "compute_scale", "tensor_scale", "why_not_blocks"]

TILE = Tile(elements=8192, num_warps=8)
TILE_SCALES = Tile(elements=256)

_ROWS_AT_ONCE = 256


def compute_scale(
    x: Tensor,
    fmt: str | Format,
    granularity: Granularity = PER_TENSOR,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `incref.ops.compute_scale` in kernels; a tensor that is not contiguous is copied first."""
    target = get_element_format(fmt)
    blocks = blocks_of(granularity, x.shape)
    assert blocks is not None
    x = x.contiguous()
    shape = granularity.scale_shape(x.shape)
    layout = working_layout(float_format_of(x.dtype))
    scale = torch.empty(shape, dtype=compute_dtype(x.dtype), device=x.device)
    arguments = {"layout": layout, "rule": rule}
    if not symmetric:
        if not isinstance(target, IntFormat) or rule.is_power_of_two:
            raise ValueError(
                "an asymmetric scale needs an integer format and the rule DIVIDE or RECIPROCAL, "
                f"got {target.name} and {rule}"
            )
        zero = torch.empty(shape, dtype=torch.int32, device=x.device)
        above, below = _amax(x, blocks, POSITIVE), _amax(x, blocks, NEGATIVE)
        patterns = scale.view(pattern_dtype(scale.dtype))
        _per_scale(affine_scale_kernel, (above, below, patterns, zero), scale, fmt=target, **arguments)
        return scale, zero
    limit = grid_limit(target, symmetric_scale)
    if rule.is_power_of_two:
        codes = torch.empty(shape, dtype=torch.uint8, device=x.device)
        _per_scale(power_scale_kernel, (_amax(x, blocks, ALL), codes), codes, element=target, **arguments)
        return codes
    is_extreme = symmetric_scale is SymmetricScale.EXTREME and isinstance(target, IntFormat)
    amax = _amax(x, blocks, POSITIVE if is_extreme else ALL)
    least = _amax(x, blocks, NEGATIVE) if is_extreme else None
    _per_scale(
        float_scale_kernel,
        (amax, least, scale.view(pattern_dtype(scale.dtype))),
        scale,
        limit=limit,
        **arguments,
    )
    return scale


def tensor_scale(x: Tensor, limit: float) -> Tensor:
    """Compute `amax / limit` over the finite elements of `x`, rounded once, as `float_scale` does.

    Args:
        x: contiguous, float32 or narrower.
        limit: exact in float32.

    Returns:
        float32, shape ().
    """
    scale = torch.empty((), dtype=torch.float32, device=x.device)
    blocks = Blocks(outer=1, rows=1, columns=x.numel(), row_extent=1, column_extent=max(x.numel(), 1))
    amax = _amax(x, blocks, FINITE)
    layout = working_layout(float_format_of(x.dtype))
    patterns = scale.view(pattern_dtype(scale.dtype))
    _per_scale(float_scale_kernel, (amax, None, patterns), scale, layout=layout, limit=limit, rule=ScaleRule.DIVIDE)
    return scale


def _per_scale(
    kernel: triton.JITFunction, tensors: tuple[Tensor | None, ...], scale: Tensor, **constants: object
) -> None:
    """Run a kernel that makes each scale by itself."""
    tile = choose(TILE_SCALES, scale)
    launch(
        kernel,
        cdiv(scale.numel(), tile.elements),
        *tensors,
        scale.numel(),
        device=scale.device,
        tile=tile,
        **constants,
        BLOCK=tile.elements,
    )


def _amax(x: Tensor, blocks: Blocks, select: object) -> Tensor:
    """Reduce to one pattern for each block; 0 for a block without elements."""
    count = blocks.outer * blocks.row_blocks * blocks.column_blocks
    dtype = pattern_dtype(compute_dtype(x.dtype))
    if x.numel() == 0:
        return torch.zeros(max(count, 1), dtype=dtype, device=x.device)
    layout = working_layout(float_format_of(x.dtype))
    amax, rows, columns, extent = x, blocks.outer * blocks.rows, blocks.columns, blocks.column_extent
    if extent > TILE.elements and columns % extent == 0:
        # Whole blocks follow each other, as if each were a row.
        rows, columns = rows * (columns // extent), extent
    while extent > 1 or (amax is x and blocks.row_extent == 1):
        step = _step(extent, columns, TILE.elements)
        found = torch.empty(rows * cdiv(columns, step), dtype=dtype, device=x.device)
        _reduce_along(amax, found, rows, columns, step, layout=layout, select=select)
        amax, columns, extent, select = found, cdiv(columns, step), cdiv(extent, step), ALL
    length, extent, inner = blocks.rows, blocks.row_extent, blocks.column_blocks
    while extent > 1:
        step = _step(extent, length, _ROWS_AT_ONCE)
        found = torch.empty(blocks.outer * cdiv(length, step) * inner, dtype=dtype, device=x.device)
        _reduce_across(amax, found, blocks.outer, length, inner, step, layout=layout, select=select)
        amax, length, extent, select = found, cdiv(length, step), cdiv(extent, step), ALL
    return amax


def _step(extent: int, size: int, most: int) -> int:
    """How many elements of a block are reduced at once; 1 if no number serves."""
    if extent <= most:
        return extent
    # The pieces of one block may be ragged; those of several have to end with their blocks.
    return most if extent >= size else math.gcd(extent, most)


def _reduce_along(x: Tensor, out: Tensor, rows: int, columns: int, extent: int, **constants: object) -> None:
    tile, lanes = choose(TILE, x), next_power_of_2(extent)
    count = min(max(tile.elements // lanes, 1), next_power_of_2(cdiv(columns, extent)))
    programs = rows * cdiv(columns, extent * count)
    constants |= {"EXTENT": extent, "BLOCKS": count, "LANES": lanes}
    launch(amax_along_kernel, programs, x, out, columns, device=x.device, tile=tile, **constants)


def _reduce_across(
    x: Tensor, out: Tensor, outer: int, length: int, inner: int, extent: int, **constants: object
) -> None:
    tile, lanes = choose(TILE, x), next_power_of_2(extent)
    columns = min(max(tile.elements // lanes, 1), next_power_of_2(inner))
    programs = outer * cdiv(length, extent) * cdiv(inner, columns)
    constants |= {"EXTENT": extent, "LANES": lanes, "COLUMNS": columns}
    launch(amax_across_kernel, programs, x, out, length, inner, device=x.device, tile=tile, **constants)


def why_not_blocks(granularity: Granularity, x: Tensor) -> str | None:
    """Say which blocks the kernels can't take."""
    blocks = blocks_of(granularity, x.shape)
    if blocks is None:
        return f"it takes blocks that cut two neighbouring dimensions, got {granularity.block_shape(x.shape)}"
    for extent, size, most in (
        (blocks.column_extent, blocks.columns, TILE.elements),
        (blocks.row_extent, blocks.rows, _ROWS_AT_ONCE),
    ):
        if extent > 1 and _step(extent, size, most) == 1:
            return f"blocks with an odd extent beyond {most} must span the dimension, got {extent} of {size}"
    return None


def why_not(x: Tensor, fmt: str | Format, granularity: Granularity = PER_TENSOR, **_options: object) -> str | None:
    """Say which arguments the kernels can't take."""
    if isinstance(target := get_element_format(fmt), CodebookFormat):
        return f"it has no scale rule for {target.name}"
    return why_not_tensors({"x": x}) or why_not_blocks(granularity, x)


KERNEL = Kernel(fn=compute_scale, why_not=why_not)
