"""Products with a stored weight: of a few rows as its codes are read, of more with tiles of its values.

Sums are in float32, in any order. Where the processor has instructions for products of bfloat16, tiles are multiplied
by those, which may take subnormals for zeros.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.formats import BlockFormat, Format, get_format
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import Granularity
from incref.numerics.scaled_matmul import as_rows
from incref.ops.pack import unpack
from incref.ops.weight_only_matmul import dequantize_weight
from incref_kernels.cpu.processor import has_fast_bfloat16
from incref_kernels.cpu.stored_weight import StoredWeight, read_weight

__all__ = ["multiply"]

# Up to so many rows it is faster, in every format, to decode the weight for each four of them than to store its values.
_FEW_ROWS = 16
# Bytes of a tile: PyTorch needs as many for a product at full speed, and still they stay in a cache.
_TILE = 1 << 24


def multiply(
    words: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    x: Tensor,
    *,
    fmt: Format,
    granularity: Granularity,
    shape: tuple[int, int],
    is_packed: bool,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Compute `weight_only_matmul` with a weight [N, K] = `shape` whose codes are `words`, or lie in them."""
    dtype, rounded = dtype or x.dtype, weight_dtype or x.dtype
    weight = (words, scale, zero_point, tensor_scale)
    if torch.compiler.is_compiling():
        block, lead = list(granularity.block), granularity.lead
        found: Tensor = _operator(x, *weight, bias, fmt.name, block, lead, list(shape), is_packed, rounded, dtype)
        return found
    flat = as_rows(x)
    common = _common_dtype(x.dtype, rounded, dtype, dtype if bias is None else bias.dtype)
    reading = read_weight(fmt, granularity, shape, is_packed=is_packed)
    if reading is None:
        tiles = _reference_tiles(weight, fmt, granularity, shape, is_packed=is_packed, rounded=rounded, dtype=common)
        out = _by_tiles(flat.to(common), tiles, shape[0], bias, dtype)
    else:
        tensors = [one.contiguous() for one in weight if one is not None]
        if len(flat) <= _FEW_ROWS:
            sums = torch.empty(len(flat), shape[0])
            reading.multiply_(sums, reading.arrange(flat.to(torch.float32)), tensors, rounded)
            out = (sums if bias is None else sums.add_(bias)).to(dtype)
        else:
            tiles = _stored_tiles(reading, tensors, rounded, common)
            out = _by_tiles(flat.to(common), tiles, shape[0], bias, dtype)
    return out.view(*x.shape[:-1], shape[0])


@torch.library.custom_op("incref_cpu::weight_only_matmul", mutates_args=())
def _operator(  # noqa: PLR0917  # an operator's arguments
    x: Tensor,
    words: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    bias: Tensor | None,
    fmt: str,
    block: list[int],
    lead: int,
    shape: list[int],
    is_packed: bool,  # noqa: FBT001
    rounded: torch.dtype,
    dtype: torch.dtype,
) -> Tensor:
    """Stand for `multiply` in graphs, which name formats."""
    return multiply(
        words,
        scale,
        zero_point,
        tensor_scale,
        x,
        fmt=get_format(fmt),
        granularity=Granularity(tuple(block), lead),
        shape=(shape[0], shape[1]),
        is_packed=is_packed,
        bias=bias,
        weight_dtype=rounded,
        dtype=dtype,
    )


@_operator.register_fake
def _(x: Tensor, words: Tensor, *rest: object) -> Tensor:
    dtype = rest[-1]
    assert isinstance(dtype, torch.dtype)
    return x.new_empty((*x.shape[:-1], words.shape[0]), dtype=dtype)


def _common_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """What tiles are multiplied in: float32, which holds the values of all, or bfloat16 if all are and it is faster."""
    is_narrow = all(dtype is torch.bfloat16 for dtype in dtypes)
    return torch.bfloat16 if is_narrow and has_fast_bfloat16() else torch.float32


_Tiles = Iterator[tuple[slice, Tensor]]


def _by_tiles(x: Tensor, tiles: _Tiles, columns: int, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    out = torch.empty(len(x), columns, dtype=x.dtype)
    is_narrow = x.dtype is not torch.float32
    for rows, weight in tiles:
        if is_narrow and bias is not None:
            # Here the bias is added before the sum is rounded.
            out[:, rows] = F.linear(x, weight, bias[rows].to(x.dtype))
        else:
            # Where its columns of the result lie: it would take as long again to make a tensor and copy it there.
            torch.mm(x, weight.T, out=out[:, rows])
    # A sum that is zero is +0, whatever is added.
    return out.add_(0.0 if bias is None or is_narrow else bias.to(x.dtype) + 0.0).to(dtype)


def _stored_tiles(reading: StoredWeight, weight: Sequence[Tensor], rounded: torch.dtype, dtype: torch.dtype) -> _Tiles:
    """Rows of the weight in `dtype`, each with the memory of the one before."""
    columns, length = reading.shape
    step = _rows_of_tile(length, dtype)
    memory = torch.empty(min(step, columns), length, dtype=dtype)
    for start in range(0, columns, step):
        stop = min(start + step, columns)
        values = memory[: stop - start]
        reading.dequantize_(values, weight, range(start, stop), rounded)
        yield slice(start, stop), values


def _rows_of_tile(length: int, dtype: torch.dtype) -> int:
    return max(_TILE // max(length * dtype.itemsize, 1), 1)


def _reference_tiles(
    weight: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    fmt: Format,
    granularity: Granularity,
    shape: tuple[int, int],
    *,
    is_packed: bool,
    rounded: torch.dtype,
    dtype: torch.dtype,
) -> _Tiles:
    """Rows of a weight that compiled code can't read, in `dtype`."""
    words, scale, zero_point, tensor_scale = weight
    columns, length = shape
    is_block = isinstance(fmt, BlockFormat)
    own = 1 if is_block else granularity.block_shape(shape)[0]
    is_one = own == columns > 1
    # Rows that share scales stay together; where all do, any rows have these scales.
    step = _rows_of_tile(length, dtype) if is_one else _rows_of_tile(length * own, dtype) * own
    for start in range(0, columns, step):
        rows = slice(start, min(start + step, columns))
        blocks = slice(None) if is_one else slice(start // own, -(-rows.stop // own))
        codes = words[rows]
        if is_packed:
            codes = unpack(codes, fmt, layout=PackLayout.DENSE, length=length)
        values = dequantize_weight(
            codes,
            scale[blocks] if scale.ndim else scale,
            zero_point[blocks] if zero_point is not None and zero_point.ndim else zero_point,
            tensor_scale,
            fmt=fmt,
            granularity=granularity,
            dtype=rounded,
        )
        yield rows, values.to(dtype)
