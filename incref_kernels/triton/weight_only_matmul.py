"""`weight_only_matmul` on tensor cores: a tile of the weight is dequantized where it is multiplied."""

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import (
    E8M0,
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    Format,
    IntFormat,
    ScaleOrder,
    get_format,
)
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.codes import code_dtype
from incref.numerics.decode import value_table
from incref.numerics.granularity import PER_TENSOR, Granularity, per_group
from incref.numerics.packing import word_dtype
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import as_rows, require_output
from incref.ops.quantize_affine import get_int_format
from incref.ops.quantize_float import get_float_format
from incref.ops.weight_only_matmul import require_group_index
from incref_kernels.triton.device.groups import find_group
from incref_kernels.triton.device.matmul import apply_scales, load_factors, store_tile, tile_place
from incref_kernels.triton.device.weights import decode_codes, factors, load_codes, load_groups, spread
from incref_kernels.triton.groups import Groups, groups_of, scale_step, why_not_groups
from incref_kernels.triton.hardware import converted
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_tensors
from incref_kernels.triton.matmul import RowScale, row_scale, row_values, swapped
from incref_kernels.triton.matmul_tiles import MatmulTile, fit_blocks, fit_tile, tile_for
from incref_kernels.triton.sizes import cdiv
from incref_kernels.triton.split_k import add_parts_kernel, parts_for
from incref_kernels.triton.targets import declared_sums_of_floats, target_of
from incref_kernels.triton.tiles import Tile, choose

__all__ = [
    "KERNEL",
    "TILES",
    "Weight",
    "blocks_of_weight",
    "dequantize_weight_kernel",
    "is_apart",
    "multiply",
    "plan",
    "weight_only_matmul",
    "weight_only_matmul_kernel",
]

# The tile of the weight is the first factor, from registers, so every tile is of the transposed product.
TILES = (
    MatmulTile(block_m=64, block_n=16, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=64, block_n=64, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=128, block_n=128, block_k=64, num_warps=8, num_stages=3, is_transposed=True),
)
"""Tiles of `w @ x.T`, by the rows of `x`."""
TILES_OF_HOPPER = (
    *TILES[:-1],
    MatmulTile(block_m=64, block_n=128, block_k=128, num_warps=4, num_stages=3, is_transposed=True),
    MatmulTile(block_m=64, block_n=256, block_k=64, num_warps=4, num_stages=3, is_transposed=True),
)
"""The same where groups of warps multiply from shared memory; elsewhere two do not fit the registers."""
TILES_OF_FLOAT32 = (
    MatmulTile(block_m=64, block_n=16, block_k=32, num_warps=4, num_stages=2, is_transposed=True),
    MatmulTile(block_m=64, block_n=64, block_k=32, num_warps=4, num_stages=2, is_transposed=True),
)
"""The same for products in float32, which no matrix unit computes exactly."""
TILES_OF_FLOATS = (
    MatmulTile(block_m=64, block_n=16, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=64, block_n=64, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=128, block_n=256, block_k=64, num_warps=8, num_stages=4, is_transposed=True),
)
"""The same for weights that are bfloat16 already."""
ADD_TILE = Tile(elements=1024)
DEQUANTIZE_TILE = Tile(elements=4096)
_COLUMNS_AT_ONCE = 128
_ROWS_THAT_PAY = 4096
"""For so many rows of `x` it takes less time to write the weight as floats than to dequantize it for each tile."""
_MOST_PARTS = 16


@triton.jit
def _weights(
    base: tl.tensor,
    scale: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    table_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    group_ptr: tl.tensor,
    columns: tl.tensor,
    start: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    stride: tl.tensor,
    blocks: tl.tensor,
    fmt: tl.constexpr,
    scale_fmt: tl.constexpr,
    EXTENT: tl.constexpr,
    GROUP: tl.constexpr,
    PACKED: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    """Load a tile of the weight as floats: `(decode(codes) - zero) * scale * tensor_scale` in float32, a rounding each.

    Beyond K it is 0, whatever the scale is there. The scales are `scale`, as `load_groups` gives them, or loaded if it
    is None.
    """
    k = start + tl.arange(0, BLOCK_K)
    if fmt is None:
        value = load_factors(base, k, stride, K, 1, EVEN_K)
    else:
        codes = load_codes(base, start, stride, K, fmt.bits, PACKED, EVEN_K, BLOCK_K)
        value = decode_codes(codes, table_ptr, fmt)
        if zero_ptr is not None:
            few = load_groups(zero_ptr, group_ptr, columns, start, N, K, blocks, EXTENT, GROUP, BLOCK_K, MAY_END=False)
            value = value - spread(few, BLOCK_K).to(tl.float32)
        if scale is None:
            few = load_groups(scale_ptr, group_ptr, columns, start, N, K, blocks, EXTENT, GROUP, BLOCK_K, MAY_END=False)
            factor = factors(spread(few, BLOCK_K), scale_fmt)
        else:
            factor = spread(factors(scale, scale_fmt), BLOCK_K)
        value = value * factor
        if tensor_scale_ptr is not None:
            value = value * tl.load(tensor_scale_ptr)
        if not EVEN_K:
            value = tl.where((k < K)[None, :], value, 0.0)
    return value


@triton.jit
def dequantize_weight_kernel(
    w_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    table_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    group_ptr: tl.tensor,
    out_ptr: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    w_row: tl.tensor,
    w_k: tl.tensor,
    blocks: tl.tensor,
    fmt: tl.constexpr,
    scale_fmt: tl.constexpr,
    EXTENT: tl.constexpr,
    GROUP: tl.constexpr,
    PACKED: tl.constexpr,
    EVEN_K: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """Write a tile of the weight [N, K] as floats, those that `weight_only_matmul_kernel` multiplies."""
    program, across = tl.program_id(0), tl.cdiv(K, WIDTH)
    columns = program // across * HEIGHT + tl.arange(0, HEIGHT)
    start = program % across * WIDTH
    base = w_ptr + tl.minimum(columns, N - 1).to(tl.int64)[:, None] * w_row
    value = _weights(
        base,
        None,
        scale_ptr,
        zero_ptr,
        table_ptr,
        tensor_scale_ptr,
        group_ptr,
        columns,
        start,
        N,
        K,
        w_k,
        blocks,
        fmt,
        scale_fmt,
        EXTENT,
        GROUP,
        PACKED,
        EVEN_K,
        WIDTH,
    )
    k = start + tl.arange(0, WIDTH)
    at = out_ptr + columns.to(tl.int64)[:, None] * K + k[None, :]
    tl.store(at, value.to(out_ptr.dtype.element_ty), mask=(columns < N)[:, None] & (k < K)[None, :])


@triton.jit
def weight_only_matmul_kernel(  # noqa: C901  # Triton decides most of it while it compiles
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    zero_ptr: tl.tensor,
    table_ptr: tl.tensor,
    tensor_scale_ptr: tl.tensor,
    group_ptr: tl.tensor,
    unless_ptr: tl.tensor,
    left_ptr: tl.tensor,
    right_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    ends_ptr: tl.tensor,
    out_ptr: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    K: tl.tensor,
    x_row: tl.tensor,
    x_k: tl.tensor,
    w_row: tl.tensor,
    w_k: tl.tensor,
    blocks: tl.tensor,
    w_step: tl.tensor,
    scale_step: tl.tensor,
    fmt: tl.constexpr,
    scale_fmt: tl.constexpr,
    weight_type: tl.constexpr,
    common_type: tl.constexpr,
    order: tl.constexpr,
    layout: tl.constexpr,
    EXTENT: tl.constexpr,
    GROUP: tl.constexpr,
    PACKED: tl.constexpr,
    PARTS: tl.constexpr,
    GROUPS: tl.constexpr,
    AHEAD: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
) -> None:
    """Compute a tile of `w @ x.T`, or its sum over one of PARTS runs along K, and store it transposed.

    BLOCK_M counts rows of `w`, BLOCK_N rows of `x`. A weight without a format is one of floats. `left_ptr` and
    `right_ptr` are scales of all of `x` and `w` that multiply sums, in the order `order` of the transposed product.
    With AHEAD the scales of a step are asked for a step before.
    Nothing is done where `unless_ptr` is set. With `ends_ptr` rows of `x` are in GROUPS groups, each with a weight of
    its own, and the steps say how far one is from the one before.
    """
    # Triton decides the outer condition while it compiles.
    if unless_ptr is not None:  # noqa: SIM102
        if tl.load(unless_ptr) != 0:
            return
    program = tl.program_id(0)
    if ends_ptr is not None:
        tl.static_assert(PARTS == 1)
        group, first_row, M, program = find_group(ends_ptr, program, M, tl.cdiv(N, BLOCK_M), BLOCK_N, GROUPS)
        if group == GROUPS:
            return
        x_ptr += first_row * x_row
        out_ptr += first_row * N
        w_ptr += group * w_step
        scale_ptr += group * scale_step
        if zero_ptr is not None:
            zero_ptr += group * scale_step
        if tensor_scale_ptr is not None:
            tensor_scale_ptr += group
        if bias_ptr is not None:
            bias_ptr += group * N
    tiles = tl.cdiv(N, BLOCK_M) * tl.cdiv(M, BLOCK_N)
    part = program // tiles
    columns, rows = tile_place(program % tiles, N, M, BLOCK_M, BLOCK_N, GROUP_M)
    # Rows beyond the end repeat the last one, and are not stored.
    w_base = w_ptr + tl.minimum(columns, N - 1).to(tl.int64)[:, None] * w_row
    x_base = x_ptr + tl.minimum(rows, M - 1).to(tl.int64)[None, :] * x_row
    steps = tl.cdiv(K, BLOCK_K)
    first = part * (steps // PARTS) + tl.minimum(part, steps % PARTS)
    last = first + steps // PARTS + (part < steps % PARTS).to(tl.int32)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    if AHEAD:
        at = first * BLOCK_K
        ahead = load_groups(scale_ptr, group_ptr, columns, at, N, K, blocks, EXTENT, GROUP, BLOCK_K, MAY_END=True)
    for step in range(first, last):
        start = step * BLOCK_K
        k = start + tl.arange(0, BLOCK_K)
        scale = None
        if AHEAD:
            scale = ahead
            at = start + BLOCK_K
            ahead = load_groups(scale_ptr, group_ptr, columns, at, N, K, blocks, EXTENT, GROUP, BLOCK_K, MAY_END=True)
        value = _weights(
            w_base,
            scale,
            scale_ptr,
            zero_ptr,
            table_ptr,
            tensor_scale_ptr,
            group_ptr,
            columns,
            start,
            N,
            K,
            w_k,
            blocks,
            fmt,
            scale_fmt,
            EXTENT,
            GROUP,
            PACKED,
            EVEN_K,
            BLOCK_K,
        )
        x = load_factors(x_base, k, x_k, K, 0, EVEN_K).to(common_type)
        acc = tl.dot(value.to(weight_type).to(common_type), x, acc, input_precision="ieee")
    if PARTS == 1:
        acc = apply_scales(acc, right_ptr, left_ptr, columns, rows, N, M, 0, 1, 1, order, 0, 0)
        store_tile(acc, bias_ptr, out_ptr, columns, rows, N, M, 1, N, layout, 0)
    else:
        store_tile(acc, None, out_ptr + part.to(tl.int64) * M * N, columns, rows, N, M, 1, N, layout, 0)


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A quantized weight as the kernel reads it.

    Attributes:
        fmt: of the codes; None for floats.
        scale_fmt: of scales that are codes but not E8M0's; else None.
        scale: of each group.
        zero_point: likewise; None for 0.
        table: values of the codes of a codebook; else None.
    """

    fmt: ElementFormat | None
    scale: RowScale
    scale_fmt: FloatFormat | None = None
    zero_point: Tensor | None = None
    table: Tensor | None = None


def weight_only_matmul(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
    packed: PackLayout | None = None,
    tile: MatmulTile | None = None,
    parts: int | None = None,
    apart: bool | None = None,
    ends: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.weight_only_matmul` in a kernel; `w` is read where it is, with any strides.

    Args:
        x: see there; so are the others that are not named here.
        w: codes, or words of `packed` along K.
        scale: of the weight.
        fmt: of the weight.
        zero_point: of the weight.
        granularity: of the weight.
        g_idx: the group of every column.
        tensor_scale: NVFP4 only.
        bias: [N].
        weight_dtype: of the dequantized weight.
        dtype: of the result.
        packed: how `w` is packed, along K; None for a code a byte.
        tile: sizes; by default those of `TILES`.
        parts: runs along K that are added apart, then in order; by default as many as occupy the device.
        apart: whether the weight is written as N * K floats first, and then multiplied; by default on a GPU where
            many rows meet it. What is multiplied is the same.
        ends: of groups of rows, where this is `incref.ops.grouped.grouped` of the operation; K is then one run.

    Returns:
        [..., N]. `targets.accumulator` adds the products of a run; the bias is added in float32.
    """
    groups = groups_of(ends, x, w)
    first = w if groups is None else w[0]
    columns, length = first.shape[0], x.shape[-1]
    source = get_format(fmt)
    _require_matrices(x, first, source, packed)
    dtype, weight_dtype = dtype or x.dtype, weight_dtype or x.dtype
    for name, one in (("x", x.dtype), ("weight_dtype", weight_dtype)):
        if one not in _TYPES:
            raise TypeError(f"{name} must be torch.float32, torch.bfloat16 or torch.float16, got {one}")
    require_output(dtype, bias if groups is None or bias is None else bias[0], columns)
    shape = (columns, length)
    if groups is None:
        weight = _weight(shape, scale, source, zero_point, granularity, g_idx, tensor_scale)
    else:
        weight = _stacked_weight(shape, scale, source, zero_point, granularity, tensor_scale)
    assert weight.fmt is not None
    wanted = code_dtype(weight.fmt) if packed is None else word_dtype(LAYOUTS[packed])
    if w.dtype is not wanted:
        raise TypeError(f"{'codes' if packed is None else 'words'} of {source.name} must be {wanted}, got {w.dtype}")
    flat = as_rows(x)
    rows = flat.shape[0]
    # What differs meets in float32, which holds both.
    common = x.dtype if x.dtype is weight_dtype else torch.float32
    is_tuned = tile is None
    has_blocks = isinstance(source, BlockFormat)
    usual, parts = (rows, parts) if groups is None else (groups.usual_rows(rows), 1)
    if apart and (groups is not None or common is torch.float32):
        raise ValueError("apart is for one product of bfloat16 or float16")
    if apart is None:
        apart = groups is None and is_apart(rows, x.device, common)
    tile, parts = plan(
        usual, columns, length, x.device, common, tile=tile, parts=parts, has_blocks=has_blocks, apart=apart
    )
    if is_tuned and not apart and _is_gathered(weight.scale.block, g_idx, tile):
        # Scales of single elements would be kept for every stage.
        tile = replace(tile, num_stages=1)
    out = (torch.empty if groups is None else torch.zeros)(rows, columns, dtype=dtype, device=x.device)
    codes = w if packed else w.view(torch.uint8)
    if apart:
        codes = _dequantized(codes, weight, shape, weight_dtype, tensor_scale, g_idx, packed)
        weight = Weight(fmt=None, scale=RowScale(scale=None))
        tensor_scale = g_idx = packed = None
    multiply(
        flat,
        codes,
        weight,
        out,
        tensor_scale=tensor_scale,
        g_idx=g_idx,
        bias=bias,
        weight_dtype=weight_dtype,
        packed=packed,
        tile=tile,
        parts=parts,
        groups=groups,
    )
    return out.view(*x.shape[:-1], columns)


def _dequantized(
    w: Tensor,
    weight: Weight,
    shape: tuple[int, int],
    dtype: torch.dtype,
    tensor_scale: Tensor | None,
    g_idx: Tensor | None,
    packed: PackLayout | None,
) -> Tensor:
    """Write a weight of `shape` as floats."""
    out = torch.empty(shape, dtype=dtype, device=w.device)
    (columns, length), tile = shape, choose(DEQUANTIZE_TILE, out)
    rows = max(1, tile.elements // _COLUMNS_AT_ONCE)
    launch(
        dequantize_weight_kernel,
        cdiv(columns, rows) * cdiv(length, _COLUMNS_AT_ONCE),
        w,
        weight.scale.scale,
        weight.zero_point,
        weight.table,
        tensor_scale,
        None if g_idx is None else g_idx.contiguous(),
        out,
        columns,
        length,
        *w.stride(),
        weight.scale.blocks,
        device=w.device,
        tile=tile,
        fmt=weight.fmt,
        scale_fmt=weight.scale_fmt,
        EXTENT=weight.scale.extent,
        GROUP=weight.scale.block,
        PACKED=_codes_in_word(weight.fmt, packed),
        EVEN_K=length % _COLUMNS_AT_ONCE == 0,
        HEIGHT=rows,
        WIDTH=_COLUMNS_AT_ONCE,
    )
    return out


def multiply(
    x: Tensor,
    w: Tensor,
    weight: Weight,
    out: Tensor,
    *,
    tile: MatmulTile,
    parts: int,
    weight_dtype: torch.dtype,
    tensor_scale: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    packed: PackLayout | None = None,
    scales: tuple[Tensor | None, Tensor | None] = (None, None),
    order: ScaleOrder = ScaleOrder.PRODUCT,
    unless: Tensor | None = None,
    groups: Groups | None = None,
) -> None:
    """Launch the kernels, with everything checked.

    Args:
        x: [M, K].
        w: codes, words or floats [N, K]; with groups, as many of them.
        weight: what belongs to the codes.
        out: [M, N], contiguous.
        tile: sizes.
        parts: runs along K.
        weight_dtype: of the dequantized weight.
        tensor_scale: of NVFP4, a factor of every weight.
        g_idx: groups.
        bias: [N].
        packed: how `w` is packed.
        scales: float32 (), of `x` and `w`, that multiply sums.
        order: where they do.
        unless: int32 [1]; nothing is done if it is not 0.
        groups: of the rows; K is one run then.
    """
    (rows, length), columns = x.shape, w.shape[-2]
    # What differs meets in float32, which holds both.
    common = x.dtype if x.dtype is weight_dtype else torch.float32
    sums = out if parts == 1 else torch.empty(parts, rows, columns, dtype=torch.float32, device=x.device)
    last = None if bias is None else bias.contiguous()
    left, right = scales if parts == 1 else (None, None)
    scale = weight.scale.scale
    if scale is None and weight.fmt is not None:
        # Rows without elements have no scales; the kernel wants one that it does not read.
        scale = torch.zeros(1, 1, dtype=torch.uint8, device=x.device)
    launch(
        weight_only_matmul_kernel,
        groups.programs(tile, rows, columns) if groups else tile.programs(rows, columns) * parts,
        x,
        w,
        scale,
        weight.zero_point,
        weight.table,
        tensor_scale,
        None if g_idx is None else g_idx.contiguous(),
        unless,
        left,
        right,
        last if parts == 1 else None,
        groups.ends if groups else None,
        sums.view(pattern_dtype(sums.dtype)),
        rows,
        columns,
        length,
        *x.stride(),
        *w.stride()[-2:],
        weight.scale.blocks,
        w.stride(0) if groups else None,
        scale_step(weight.scale, groups, is_weight=True),
        device=x.device,
        tile=tile,
        fmt=weight.fmt,
        scale_fmt=weight.scale_fmt,
        weight_type=_TYPES[weight_dtype],
        common_type=_TYPES[common],
        order=swapped(order),
        layout=float_format_of(sums.dtype),
        EXTENT=weight.scale.extent,
        GROUP=weight.scale.block,
        PACKED=_codes_in_word(weight.fmt, packed),
        PARTS=parts,
        GROUPS=groups.count if groups else 0,
        AHEAD=weight.fmt is not None and scale is not None and _is_ahead(scale, out.device),
        EVEN_K=length % tile.block_k == 0,
        **tile.constants(),
    )
    if parts > 1:
        adding = choose(ADD_TILE, out)
        launch(
            add_parts_kernel,
            cdiv(out.numel(), adding.elements),
            sums,
            *scales,
            last,
            unless,
            out.view(pattern_dtype(out.dtype)),
            out.numel(),
            columns,
            device=x.device,
            tile=adding,
            order=order,
            layout=float_format_of(out.dtype),
            PARTS=parts,
            BLOCK=adding.elements,
        )


def plan(
    rows: int,
    columns: int,
    length: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tile: MatmulTile | None = None,
    parts: int | None = None,
    has_blocks: bool = False,
    apart: bool = False,
) -> tuple[MatmulTile, int]:
    """Choose what is not given: the tile, and the parts that K is summed in; the accumulator depends on them.

    Args:
        rows: M.
        columns: N.
        length: K.
        device: that the kernel runs on.
        dtype: that factors are multiplied in.
        tile: if given.
        parts: if given.
        has_blocks: whether the weight has scales of blocks.
        apart: whether it is written as floats first.
    """
    halves = TILES_OF_HOPPER if target_of(device).is_hopper else TILES
    table = TILES_OF_FLOAT32 if dtype is torch.float32 else TILES_OF_FLOATS if apart else halves
    if tile is None:
        tile = tile_for(table, rows)
        tile = fit_blocks(tile, device) if has_blocks and not apart else tile
        tile = fit_tile(tile, device, x_bytes=dtype.itemsize, w_bytes=dtype.itemsize if apart else 1)
    steps = max(1, cdiv(length, tile.block_k))
    wanted = parts or parts_for(device, tile.programs(rows, columns), steps, _MOST_PARTS)
    return tile, min(wanted, steps)


def is_apart(rows: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a weight is written as floats of `dtype` first, where `rows` meet it."""
    return dtype is not torch.float32 and rows >= _ROWS_THAT_PAY and target_of(device).kind != "cpu"


_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def _is_ahead(scale: Tensor, device: torch.device) -> bool:
    """Whether the kernel asks for scales a step ahead: Triton copies none of fewer than four bytes ahead of time.

    On a CPU that costs little, and keeps what a GPU runs under test.
    """
    target = target_of(device)
    return scale.element_size() < 4 and (target.is_hopper or target.kind == "cpu")


def _is_gathered(block: int, g_idx: Tensor | None, tile: MatmulTile) -> bool:
    """Whether neighbours along K in a tile may have any scales."""
    return g_idx is not None or (block > 0 and block % tile.block_k != 0 and tile.block_k % block != 0)


def _codes_in_word(fmt: ElementFormat | None, packed: PackLayout | None) -> int:
    return 1 if packed is None or fmt is None else LAYOUTS[packed].word_bits // fmt.bits


def _require_matrices(x: Tensor, w: Tensor, fmt: Format, packed: PackLayout | None) -> None:
    """Check that `x` [..., K] meets `w` [N, K], or as many words as hold K codes."""
    bits = fmt.element.bits if isinstance(fmt, BlockFormat) else fmt.bits
    length = x.shape[-1] if x.ndim else 0
    words = length if packed is None else LAYOUTS[packed].num_words(bits, length)
    if x.ndim < 1 or w.ndim != 2 or w.shape[1] != words:
        what = "K" if packed is None else f"{words} words of {packed.name}"
        raise ValueError(f"x must be [..., K] and w [N, {what}], got {tuple(x.shape)} and {tuple(w.shape)}")


def _weight(
    shape: tuple[int, int],
    scale: Tensor,
    fmt: Format,
    zero_point: Tensor | None,
    granularity: Granularity,
    g_idx: Tensor | None,
    tensor_scale: Tensor | None,
) -> Weight:
    """Check what belongs to the codes of a weight of `shape`."""
    if isinstance(fmt, BlockFormat):
        return blocks_of_weight(shape, scale, fmt, zero_point, granularity, g_idx, tensor_scale)
    if tensor_scale is not None:
        raise ValueError(f"{fmt.name} has no tensor_scale")
    element: ElementFormat = get_int_format(fmt) if isinstance(fmt, IntFormat) else get_float_format(fmt)
    if zero_point is not None and not isinstance(fmt, IntFormat):
        raise ValueError(f"only integer formats have zero points, got {fmt.name}")
    if zero_point is not None and zero_point.dtype is not torch.int32:
        raise TypeError(f"zero_point must be torch.int32, got {zero_point.dtype}")
    if g_idx is None:
        found = row_scale("scale", scale, shape, granularity)
        zeros = row_values("zero_point", zero_point, shape, granularity)
    else:
        require_group_index(shape, g_idx, scale, zero_point, fmt=fmt, granularity=granularity)
        found = RowScale(scale=scale.contiguous(), extent=1)
        zeros = RowScale(scale=None if zero_point is None else zero_point.contiguous(), extent=1)
    table = value_table(fmt, torch.float32, scale.device) if isinstance(fmt, CodebookFormat) else None
    element = converted(element, scale.device)
    return Weight(fmt=element, scale_fmt=None, scale=found, zero_point=zeros.scale, table=table)


def _stacked_weight(
    shape: tuple[int, int],
    scale: Tensor,
    fmt: Format,
    zero_point: Tensor | None,
    granularity: Granularity,
    tensor_scale: Tensor | None,
) -> Weight:
    """Check what belongs to the codes of weights of `shape`, by what belongs to the first."""
    zeros = None if zero_point is None else zero_point[0]
    whole = None if tensor_scale is None else tensor_scale[0]
    first = _weight(shape, scale[0], fmt, zeros, granularity, None, whole)
    if first.scale.scale is None:
        return first
    blocks = first.scale.blocks
    point = None if zero_point is None else zero_point.reshape(-1, blocks).contiguous()
    found = replace(first.scale, scale=scale.reshape(-1, blocks).contiguous())
    return replace(first, scale=found, zero_point=point)


def blocks_of_weight(
    shape: tuple[int, int],
    scale: Tensor,
    fmt: BlockFormat,
    zero_point: Tensor | None,
    granularity: Granularity,
    g_idx: Tensor | None,
    tensor_scale: Tensor | None,
) -> Weight:
    """Check the scales of a weight of blocks."""
    own = per_group(fmt.block_size)
    if g_idx is not None:
        require_group_index(shape, g_idx, scale, zero_point, fmt=fmt, granularity=granularity)
    if zero_point is not None or granularity not in (PER_TENSOR, own):
        raise ValueError(f"{fmt.name} has blocks of its own and no zero_point; leave both out")
    if scale.dtype is not torch.uint8:
        raise TypeError(f"scale codes of {fmt.name} must be torch.uint8, got {scale.dtype}")
    if fmt.has_tensor_scale != (tensor_scale is not None):
        raise ValueError(f"{fmt.name} {'needs a' if fmt.has_tensor_scale else 'has no'} tensor_scale")
    found = row_scale("scale", scale, shape, own)
    # Also where one block spans the row.
    return Weight(
        fmt=converted(fmt.element, scale.device),
        scale_fmt=None if fmt.scale == E8M0 else fmt.scale,
        scale=found,
        zero_point=None,
        table=None,
    )


def why_not(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    packed: PackLayout | None = None,
    ends: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"x": x, "w": w, "scale": scale, "zero_point": zero_point, "g_idx": g_idx, "bias": bias, "ends": ends}
    reason = why_not_tensors(tensors | {"tensor_scale": tensor_scale})
    if reason is None and scale.dtype is torch.float64:
        reason = "it multiplies by scales in float32, so it takes none of float64"
    if ends is not None and g_idx is not None:
        reason = reason or "weights of experts have groups of neighbours along K, so it takes no g_idx with ends"
    reason = reason or why_not_groups(ends, None, x)
    return reason or (None if packed is None else _why_not_packed(get_format(fmt), packed))


def _why_not_packed(fmt: Format, packed: PackLayout) -> str | None:
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    layout = LAYOUTS[packed]
    if layout.order is None and layout.offset == 0 and layout.word_bits % element.bits == 0:
        return None
    return f"it takes codes that fill words in their order, got {element.bits} bits in {packed.name}"


KERNEL = Kernel(fn=weight_only_matmul, why_not=why_not, accumulator=declared_sums_of_floats)
