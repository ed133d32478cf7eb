"""`mx_matmul` on tensor cores: exact products of elements with their scales, in one of two ways, or as `block_scaled`.

Elements times their scales are values of bfloat16, but for the largest and smallest powers of two. So both factors are
dequantized to it, the weight where few rows meet it in the kernel that multiplies, and the product is one of bfloat16.
Where a scale is beyond that range, which a flag on the device says, another kernel multiplies elements alone, and the
sum of each block by the scales, in float32: no scale, however large or small, loses a bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import BlockFormat, Format, ScaleOrder
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import as_rows, require_matrices, require_output
from incref.ops.quantize_mx import get_block_format
from incref_kernels.triton.block_scaled import multiply_scaled, why_not_scaled
from incref_kernels.triton.dequantize_mx import dequantize_mx
from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.device.divide import value_of
from incref_kernels.triton.device.facts import bfloat16, layout_of_width, power_of_two
from incref_kernels.triton.device.groups import group_place
from incref_kernels.triton.device.matmul import apply_scales, load_factors, store_tile, tile_place
from incref_kernels.triton.device.scaled import scale_values
from incref_kernels.triton.groups import Groups, groups_of, why_not_groups
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_tensors
from incref_kernels.triton.matmul import LEAST_K, RowScale, swapped, why_not_order
from incref_kernels.triton.matmul_tiles import MatmulTile, fit_blocks, fit_tile, tile_for
from incref_kernels.triton.sizes import cdiv
from incref_kernels.triton.split_k import parts_for
from incref_kernels.triton.targets import Factors, declared_sums_of_halves, target_of
from incref_kernels.triton.tiles import Tile, choose
from incref_kernels.triton.weight_only_matmul import TILES_OF_FLOATS, Weight, blocks_of_weight, multiply

__all__ = ["KERNEL", "TILES", "folded_codes", "mx_matmul", "mx_matmul_kernel", "plan"]

TILES = (
    MatmulTile(block_m=64, block_n=16, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=64, block_n=64, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=128, block_n=128, block_k=128, num_warps=8, num_stages=3),
)
"""Tiles by the rows of `x` for sums of blocks; along K they have as much as shares a scale."""
FUSED_TILES = (
    MatmulTile(block_m=64, block_n=16, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
    MatmulTile(block_m=64, block_n=64, block_k=128, num_warps=4, num_stages=4, is_transposed=True),
)
"""Tiles for few rows, in whose kernel the weight is dequantized."""
FIND_TILE = Tile(elements=4096)
_COLUMNS_OF_COPIES = 64
_FEW_ROWS = FUSED_TILES[-1].rows
_MOST_PARTS = 16


@triton.jit
def _factor(
    base: tl.tensor,
    scale_base: tl.tensor,
    start: tl.tensor,
    stride: tl.tensor,
    K: tl.tensor,
    fmt: tl.constexpr,
    AXIS: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    """Load elements as bfloat16, with their scales unless these are powers of two; 0 beyond K."""
    single: tl.constexpr = layout_of_width(32)
    half: tl.constexpr = bfloat16()
    element: tl.constexpr = fmt.element
    scale_fmt: tl.constexpr = fmt.scale
    k = start + tl.arange(0, BLOCK_K)
    codes = load_factors(base, k, stride, K, AXIS, EVEN_K).to(tl.int32)
    if fmt.has_tensor_scale:
        scales = load_factors(scale_base, k // fmt.block_size, 1, tl.cdiv(K, fmt.block_size), AXIS, EVEN_K)
        factor = value_of(decode_patterns(scales.to(tl.int32), scale_fmt, single))
        value = (value_of(decode_patterns(codes, element, single)) * factor).to(tl.bfloat16)
        if not EVEN_K:
            value = tl.where(tl.expand_dims(k < K, 1 - AXIS), value, 0.0)
    else:
        value = decode_patterns(codes, element, half).to(tl.int16).to(tl.bfloat16, bitcast=True)
    return value


@triton.jit
def _scale_block(
    acc: tl.tensor,
    x_scale_base: tl.tensor,
    w_scale_base: tl.tensor,
    block: tl.tensor,
    x_fmt: tl.constexpr,
    w_fmt: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
) -> tl.tensor:
    """Multiply the sum of a block by `2**(i + j)`, rounded once.

    Of `i` as much as leaves the sum a normal number, between LOW and HIGH, is multiplied first. The rest joins `j`:
    where their product is beyond float32, so is every sum but 0.
    """
    single: tl.constexpr = layout_of_width(32)
    if x_fmt.has_tensor_scale:
        if not w_fmt.has_tensor_scale:
            acc = acc * scale_values(tl.load(w_scale_base + block), single)
    elif w_fmt.has_tensor_scale:
        acc = acc * scale_values(tl.load(x_scale_base + block), single)
    else:
        code = tl.load(x_scale_base + block).to(tl.int32)
        exponent = code - x_fmt.scale.bias
        first = tl.minimum(tl.maximum(exponent, LOW), HIGH)
        one = value_of((first + single.bias) << single.mantissa_bits)
        rest = value_of((exponent - first + single.bias) << single.mantissa_bits)
        one = tl.where(code == x_fmt.scale.nan_code, value_of(tl.full([], single.nan_code, tl.int32)), one)
        other = scale_values(tl.load(w_scale_base + block), single)
        largest: tl.constexpr = power_of_two(single.emax)
        both = tl.minimum(rest * other, largest, propagate_nan=tl.PropagateNan.ALL)
        acc = acc * one * both
    return acc


@triton.jit
def find_beyond_kernel(
    scale_ptr: tl.tensor,
    found_ptr: tl.tensor,
    numel: tl.tensor,
    LEAST: tl.constexpr,
    MOST: tl.constexpr,
    NAN: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Note in `found_ptr` whether a code is below LEAST or above MOST, and not NAN."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    code = tl.load(scale_ptr + place, mask=place < numel, other=NAN).to(tl.int32)
    is_beyond = (code != NAN) & ((code < LEAST) | (code > MOST))
    tl.store(found_ptr, 1, mask=tl.max(is_beyond.to(tl.int32), axis=0) != 0)


@triton.jit
def mx_matmul_kernel(
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    x_scale_ptr: tl.tensor,
    w_scale_ptr: tl.tensor,
    x_tensor_scale_ptr: tl.tensor,
    w_tensor_scale_ptr: tl.tensor,
    where_ptr: tl.tensor,
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
    out_row: tl.tensor,
    out_column: tl.tensor,
    x_fmt: tl.constexpr,
    w_fmt: tl.constexpr,
    order: tl.constexpr,
    layout: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    BIAS_AXIS: tl.constexpr,
    GROUPS: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
) -> None:
    """Compute a tile of `x @ w.T`; all elements of a row in BLOCK_K share a scale that is a power of two, if any.

    Nothing is done unless `where_ptr` is set. With `ends_ptr`, of the product of one of GROUPS groups: what has no bias
    along it is divided, and the rows of the other matrices follow one another.
    """
    # Triton decides the outer condition while it compiles.
    if where_ptr is not None:  # noqa: SIM102
        if tl.load(where_ptr) == 0:
            return
    program = tl.program_id(0)
    if ends_ptr is not None:
        group, first, count, program, beside = group_place(ends_ptr, program, M, N, BLOCK_M, BLOCK_N, BIAS_AXIS, GROUPS)
        if group == GROUPS:
            return
        if BIAS_AXIS == 1:
            M, x_first, w_first, out_step = count, first, beside, out_row
        else:
            N, x_first, w_first, out_step = count, beside, first, out_column
        if BIAS_AXIS == 1 and w_tensor_scale_ptr is not None:
            w_tensor_scale_ptr += group
        if BIAS_AXIS == 0 and x_tensor_scale_ptr is not None:
            x_tensor_scale_ptr += group
        if bias_ptr is not None:
            bias_ptr += beside
        x_ptr += x_first * x_row
        w_ptr += w_first * w_row
        x_scale_ptr += x_first * tl.cdiv(K, x_fmt.block_size)
        w_scale_ptr += w_first * tl.cdiv(K, w_fmt.block_size)
        out_ptr += first * out_step
    rows, columns = tile_place(program, M, N, BLOCK_M, BLOCK_N, GROUP_M)
    # Rows beyond the end repeat the last one, and are not stored.
    x_at = tl.minimum(rows, M - 1).to(tl.int64)[:, None]
    w_at = tl.minimum(columns, N - 1).to(tl.int64)[None, :]
    x_scale_base = x_scale_ptr + x_at * tl.cdiv(K, x_fmt.block_size)
    w_scale_base = w_scale_ptr + w_at * tl.cdiv(K, w_fmt.block_size)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        x = _factor(x_ptr + x_at * x_row, x_scale_base, start, x_k, K, x_fmt, 1, EVEN_K, BLOCK_K)
        w = _factor(w_ptr + w_at * w_row, w_scale_base, start, w_k, K, w_fmt, 0, EVEN_K, BLOCK_K)
        acc = tl.dot(x, w, input_precision="ieee")
        total += _scale_block(acc, x_scale_base, w_scale_base, start // BLOCK_K, x_fmt, w_fmt, LOW, HIGH)
    total = apply_scales(total, x_tensor_scale_ptr, w_tensor_scale_ptr, rows, columns, M, N, 0, 1, 1, order, 0, 0)
    store_tile(total, bias_ptr, out_ptr, rows, columns, M, N, out_row, out_column, layout, BIAS_AXIS)


@dataclass(frozen=True)
class _Side:
    """A factor: codes [rows, K], scales of blocks [rows, blocks], that of the tensor or None, and the format."""

    codes: Tensor
    scale: Tensor
    tensor_scale: Tensor | None
    fmt: BlockFormat


def mx_matmul(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_tensor_scale: Tensor | None = None,
    w_tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
    factors: Factors = Factors.BFLOAT16,
    tile: MatmulTile | None = None,
    ends: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.mx_matmul` in a kernel; codes are read where they are, with any strides.

    `factors` says what is multiplied: elements with their scales as bfloat16, or `Factors.BLOCKS`, by units that take
    both, whose sums nobody has measured yet: `targets.accumulator` knows them on the CPU alone.

    `targets.accumulator` adds the products of bfloat16, in as many parts of K as `plan` says. With a scale that is
    beyond `folded_codes` it adds those of a block, and the sums of blocks are added in float32, in the order of K.

    With `ends` it is `incref.ops.grouped.grouped` of it: block by block always, in one launch.
    """
    groups = groups_of(ends, x, w)
    first = w if groups is None else w[0]
    require_matrices(x, first)
    require_output(dtype, bias if groups is None or bias is None else bias[0], first.shape[0])
    left = _side("x", x, x_scale, get_block_format(x_fmt), x_tensor_scale, ())
    right = _side("w", w, w_scale, get_block_format(w_fmt), w_tensor_scale, () if groups is None else (groups.count,))
    rows, columns = left.codes.shape[0], first.shape[0]
    out = (torch.empty if groups is None else torch.zeros)(rows, columns, dtype=dtype, device=x.device)
    if factors is Factors.BLOCKS:
        formats = (left.fmt, right.fmt)
        multiply_scaled((left.codes, right.codes), (left.scale, right.scale), formats, out, bias, tile, groups)
        return out.view(*x.shape[:-1], columns)
    beyond = None
    if groups is None:
        beyond = _find_beyond(left, right)
        turned = tile if tile is not None and tile.is_transposed else None
        _multiply_folded(left, right, out, bias, order, turned, beyond)
    if beyond is not None or groups is not None:
        usual = rows if groups is None else groups.usual_rows(rows)
        tile = tile or _tile_of_blocks(usual, x.device)
        tile = replace(tile, block_k=_block(left.fmt, right.fmt) or tile.block_k)
        _multiply_blocks(left, right, out, bias, order, tile, beyond, groups)
    return out.view(*x.shape[:-1], columns)


def _tile_of_blocks(rows: int, device: torch.device) -> MatmulTile:
    """Choose a tile for sums of blocks."""
    tile = fit_tile(tile_for(TILES, rows), device, x_bytes=2, w_bytes=2)
    if target_of(device).keeps_sums_apart:
        # The copy of a sum is as large as the total beside it.
        tile = replace(tile, block_n=min(tile.block_n, _COLUMNS_OF_COPIES))
    return tile


def folded_codes(fmt: BlockFormat) -> tuple[int, int]:
    """The least and the greatest code of a power of two that bfloat16 holds every element with."""
    half = float_format_of(torch.bfloat16)
    assert half.smallest_subnormal is not None
    least = math.ceil(math.log2(half.smallest_subnormal / fmt.element.smallest_positive))
    most = half.emax - math.frexp(fmt.element.qmax)[1] + 1
    return max(least + fmt.scale.bias, 0), min(most + fmt.scale.bias, fmt.scale.max_code)


def _find_beyond(*sides: "_Side") -> Tensor | None:
    """Make the flag that says whether some scale is beyond `folded_codes`; None if no format has such scales."""
    powers = [side for side in sides if not side.fmt.has_tensor_scale]
    if not powers:
        return None
    found = torch.zeros(1, dtype=torch.int32, device=sides[0].codes.device)
    tile = choose(FIND_TILE, powers[0].scale)
    for side in powers:
        least, most = folded_codes(side.fmt)
        launch(
            find_beyond_kernel,
            cdiv(side.scale.numel(), tile.elements),
            side.scale,
            found,
            side.scale.numel(),
            device=found.device,
            tile=tile,
            LEAST=least,
            MOST=most,
            NAN=side.fmt.scale.nan_code,
            BLOCK=tile.elements,
        )
    return found


def plan(
    rows: int, columns: int, length: int, device: torch.device, tile: MatmulTile | None = None
) -> tuple[MatmulTile, int, bool]:
    """Choose the tile, the parts of K, and whether the weight is dequantized in the kernel that multiplies.

    That is so where few rows meet it: its codes take fewer bytes than bfloat16.
    """
    is_fused = rows <= _FEW_ROWS
    if tile is None:
        table = FUSED_TILES if is_fused else TILES_OF_FLOATS
        tile = tile_for(table, rows)
        tile = fit_tile(fit_blocks(tile, device) if is_fused else tile, device, x_bytes=2, w_bytes=1 if is_fused else 2)
    steps = max(1, cdiv(length, tile.block_k))
    return tile, parts_for(device, tile.programs(rows, columns), steps, _MOST_PARTS) if is_fused else 1, is_fused


def _multiply_folded(
    x: "_Side",
    w: "_Side",
    out: Tensor,
    bias: Tensor | None,
    order: ScaleOrder,
    tile: MatmulTile | None,
    beyond: Tensor | None,
) -> None:
    """Multiply factors in bfloat16, unless `beyond` is set."""
    (rows, length), columns = x.codes.shape, w.codes.shape[0]
    tile, parts, is_fused = plan(rows, columns, length, out.device, tile)
    one = torch.ones((), dtype=torch.float32, device=out.device)
    values = _fold(x, one)
    if is_fused:
        codes = w.codes.view(torch.uint8)
        own = one if w.fmt.has_tensor_scale else None
        weight = blocks_of_weight((columns, length), w.scale, w.fmt, None, PER_TENSOR, None, own)
    else:
        codes, own, weight = _fold(w, one), None, Weight(fmt=None, scale=RowScale(scale=None))
    multiply(
        values,
        codes,
        weight,
        out,
        tensor_scale=own,
        bias=bias,
        weight_dtype=torch.bfloat16,
        tile=tile,
        parts=parts,
        scales=(x.tensor_scale, w.tensor_scale),
        order=order,
        unless=beyond,
    )


def _fold(side: "_Side", one: Tensor) -> Tensor:
    """Elements times the scales of their blocks."""
    whole = one if side.fmt.has_tensor_scale else None
    return dequantize_mx(side.codes, side.scale, side.fmt, tensor_scale=whole, dtype=torch.bfloat16)


def _multiply_blocks(
    x: "_Side",
    w: "_Side",
    out: Tensor,
    bias: Tensor | None,
    order: ScaleOrder,
    tile: MatmulTile,
    beyond: Tensor | None,
    groups: Groups | None,
) -> None:
    """Multiply elements block by block, if `beyond` is set or there is none."""
    sides, patterns = [x, w], out.view(pattern_dtype(out.dtype))
    if tile.is_transposed:
        sides, patterns, order = sides[::-1], patterns.T, swapped(order)
    one, other = sides
    length = x.codes.shape[1]
    low, high = _exact_exponents(one.fmt, other.fmt, tile.block_k)
    launch(
        mx_matmul_kernel,
        groups.programs(tile, *out.shape) if groups else tile.programs(*out.shape),
        one.codes,
        other.codes,
        one.scale,
        other.scale,
        one.tensor_scale,
        other.tensor_scale,
        beyond,
        None if bias is None else bias.contiguous(),
        groups.ends if groups else None,
        patterns,
        *patterns.shape,
        length,
        *one.codes.stride(),
        *other.codes.stride(),
        *patterns.stride(),
        device=out.device,
        tile=tile,
        x_fmt=one.fmt,
        w_fmt=other.fmt,
        order=order,
        layout=float_format_of(out.dtype),
        LOW=low,
        HIGH=high,
        BIAS_AXIS=0 if tile.is_transposed else 1,
        GROUPS=groups.count if groups else 0,
        EVEN_K=length % tile.block_k == 0,
        **tile.constants(),
    )


def _side(
    name: str, codes: Tensor, scale: Tensor, fmt: BlockFormat, tensor_scale: Tensor | None, stack: tuple[int, ...]
) -> _Side:
    """Check a factor, of which there are as many as `stack` says, and give it as a matrix."""
    if codes.dtype is not code_dtype(fmt.element):
        raise TypeError(f"element codes of {fmt.name} must be {code_dtype(fmt.element)}, got {codes.dtype}")
    if scale.dtype is not torch.uint8:
        raise TypeError(f"scale codes of {fmt.name} must be torch.uint8, got {scale.dtype}")
    wanted = (*codes.shape[:-1], cdiv(codes.shape[-1], fmt.block_size))
    if tuple(scale.shape) != wanted:
        raise ValueError(
            f"{name}_scale must have the shape {wanted}, one for {fmt.block_size} codes, got {tuple(scale.shape)}"
        )
    if fmt.has_tensor_scale != (tensor_scale is not None):
        raise ValueError(f"{fmt.name} {'needs a' if fmt.has_tensor_scale else 'has no'} {name}_tensor_scale")
    if tensor_scale is not None and (tensor_scale.dtype is not torch.float32 or tensor_scale.shape != stack):
        raise ValueError(
            f"{name}_tensor_scale must be torch.float32 of shape {stack}, got {tensor_scale.dtype} of "
            f"{tuple(tensor_scale.shape)}"
        )
    return _Side(as_rows(codes), as_rows(scale).contiguous(), tensor_scale, fmt)


def _block(*formats: BlockFormat) -> int | None:
    """How many elements share scales that are powers of two; None if there are none."""
    sizes = {fmt.block_size for fmt in formats if not fmt.has_tensor_scale}
    assert len(sizes) < 2
    return sizes.pop() if sizes else None


def _exact_exponents(x: BlockFormat, w: BlockFormat, count: int) -> tuple[int, int]:
    """Least and greatest exponent of a power of two that changes no bit of a sum of `count` products.

    Every sum is a multiple of the product of the smallest values, and not larger than all of the largest together.
    """
    single = float_format_of(torch.float32)
    least, most = 0.0, math.log2(count)
    for fmt in (x, w):
        least += math.log2(fmt.element.smallest_positive)
        most += math.log2(fmt.element.qmax)
    low = math.ceil(single.emin - single.mantissa_bits - least)
    high = math.floor(single.emax - most)
    return max(low, single.emin), min(high, single.emax)


def why_not(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    *,
    x_fmt: str | Format,
    w_fmt: str | Format,
    x_tensor_scale: Tensor | None = None,
    w_tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    factors: Factors = Factors.BFLOAT16,
    ends: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    tensors = {"x": x, "w": w, "x_scale": x_scale, "w_scale": w_scale, "bias": bias, "ends": ends}
    reason = why_not_tensors(tensors | {"x_tensor_scale": x_tensor_scale, "w_tensor_scale": w_tensor_scale})
    reason = reason or why_not_groups(ends, None, x)
    reason = reason or why_not_order(order, x_tensor_scale, w_tensor_scale, bias)
    formats = (get_block_format(x_fmt), get_block_format(w_fmt))
    if factors is Factors.BLOCKS:
        return reason or why_not_scaled(x.device, *formats)
    if factors is not Factors.BFLOAT16:
        return f"it multiplies bfloat16, or blocks with their scales, not {factors.value}"
    return reason or _why_not_blocks([fmt for fmt in formats if not fmt.has_tensor_scale])


def _why_not_blocks(formats: Sequence[BlockFormat]) -> str | None:
    sizes = sorted({fmt.block_size for fmt in formats})
    if len(sizes) > 1:
        return f"it takes scales that are powers of two in blocks of one size, got {sizes}"
    if sizes and (sizes[0] < LEAST_K or sizes[0].bit_count() > 1):
        return f"it takes blocks of a power of two from {LEAST_K} on, got {sizes[0]}"
    return None


KERNEL = Kernel(fn=mx_matmul, why_not=why_not, accumulator=declared_sums_of_halves)
