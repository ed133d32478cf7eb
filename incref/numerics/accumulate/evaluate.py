"""Matrix products as a given accumulator computes them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from incref.formats import FloatFormat
from incref.numerics.accumulate.aligned import Operand, add_aligned, make_operand
from incref.numerics.accumulate.float_parts import add_rounded_once
from incref.numerics.accumulate.models import (
    Accumulator,
    Aligned,
    Pairwise,
    Promoted,
    Reordered,
    Sequential,
    SplitK,
)
from incref.numerics.checks import require_subnormals
from incref.numerics.codes import code_dtype
from incref.numerics.decode import decode_codes, require_exact, value_table

__all__ = ["accumulate", "accumulate_codes", "accumulate_rows"]

_TILE_PRODUCTS = 1 << 19


def accumulate_codes(
    a: Tensor, b: Tensor, a_fmt: FloatFormat, b_fmt: FloatFormat, model: Accumulator, *, carried: Tensor | None = None
) -> Tensor:
    """Multiply matrices of codes as `model` does; see `accumulate`.

    Args:
        a: codes of `a_fmt`, [M, K].
        b: codes of `b_fmt`, [N, K].
        a_fmt: a float format of at most 16 bits.
        b_fmt: another, or the same.
        model: the accumulator.
        carried: what the sums start from, float32 [M, N]; None is 0.
    """
    return accumulate(_decode(a, a_fmt), _decode(b, b_fmt), a_fmt, b_fmt, model, carried=carried)


def _decode(codes: Tensor, fmt: FloatFormat) -> Tensor:
    if codes.dtype is not code_dtype(fmt):
        raise TypeError(f"codes of {fmt.name} must be {code_dtype(fmt)}, got {codes.dtype}")
    require_exact(fmt, torch.float32)
    table = value_table(fmt, torch.float32, codes.device) if fmt.bits <= 8 else None
    return decode_codes(codes, fmt, torch.float32, table)


def accumulate(
    a: Tensor, b: Tensor, a_fmt: FloatFormat, b_fmt: FloatFormat, model: Accumulator, *, carried: Tensor | None = None
) -> Tensor:
    """Compute `a @ b.T + carried` as `model` does, in pieces, so that working memory does not grow with the result.

    Args:
        a: values of `a_fmt`, [M, K], in a float dtype that holds them.
        b: values of `b_fmt`, [N, K].
        a_fmt: format of `a`; where its subnormals begin matters to sums aligned by the exponents of factors.
        b_fmt: format of `b`.
        model: the accumulator.
        carried: what the sums start from, float32 [M, N]; None is 0.

    Returns:
        float32 [M, N]. Products are exact unless `model` rounds them; a NaN or Inf among the terms does what it does in
        IEEE arithmetic; a sum that is zero is +0 for `Aligned`, and has its IEEE sign else.

    Raises:
        ValueError: if shapes do not fit.
        FlushDenormalError: if the processor flushes subnormals.
    """
    require_subnormals("accumulate")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must be [M, K] and [N, K], got {tuple(a.shape)} and {tuple(b.shape)}")
    out = torch.zeros(a.shape[0], b.shape[0], dtype=torch.float32, device=a.device)
    if carried is not None:
        if carried.shape != out.shape or carried.dtype is not torch.float32:
            raise ValueError(
                f"carried must be torch.float32 {tuple(out.shape)}, got {carried.dtype} {tuple(carried.shape)}"
            )
        out.copy_(carried)
    left, right = make_operand(a, a_fmt), make_operand(b, b_fmt)
    for rows, columns in _tiles(a.shape[0], b.shape[0], _products_at_once(model, a.shape[1])):
        one = Operand(value=left.value[rows].unsqueeze(1), power=left.power[rows].unsqueeze(1))
        other = Operand(value=right.value[columns].unsqueeze(0), power=right.power[columns].unsqueeze(0))
        out[rows, columns] = _add_all(one, other, out[rows, columns], model)
    return out


def accumulate_rows(
    a: Tensor, b: Tensor, a_fmt: FloatFormat, b_fmt: FloatFormat, model: Accumulator, *, carried: Tensor | None = None
) -> Tensor:
    """Compute the dot product of every row of `a` with that of `b`: the diagonal of what `accumulate` computes.

    Args:
        a: values of `a_fmt`, [T, K].
        b: values of `b_fmt`, [T, K].
        a_fmt: format of `a`.
        b_fmt: format of `b`.
        model: the accumulator.
        carried: what the sums start from, float32 [T]; None is 0.

    Returns:
        float32 [T].
    """
    start = torch.zeros(a.shape[0], dtype=torch.float32, device=a.device) if carried is None else carried
    return _add_all(make_operand(a, a_fmt), make_operand(b, b_fmt), start, model)


def _products_at_once(model: Accumulator, length: int) -> int:
    """How many products of one output are held at a time."""
    match model:
        case Aligned():
            return model.group
        case Reordered() | Promoted() | SplitK():
            return _products_at_once(model.inner, length)
        case Sequential():
            return 1
        case Pairwise():
            return max(length, 1)


def _tiles(rows: int, columns: int, depth: int) -> Iterator[tuple[slice, slice]]:
    side = max(1, _TILE_PRODUCTS // depth)
    width = min(columns, max(64, int(side**0.5)))
    height = max(1, side // max(width, 1))
    for top in range(0, rows, height):
        for start in range(0, columns, max(width, 1)):
            yield slice(top, min(top + height, rows)), slice(start, min(start + width, columns))


def _add_all(a: Operand, b: Operand, carried: Tensor, model: Accumulator) -> Tensor:
    """Add products to float32 `carried`."""
    length = a.value.shape[-1]
    match model:
        case Aligned():
            return add_aligned(a, b, carried.to(torch.float64), model).to(torch.float32)
        case Reordered():
            return _add_all(a.reordered(model.order), b.reordered(model.order), carried, model.inner)
        case Promoted():
            for start in range(0, length, model.every):
                stop = min(start + model.every, length)
                carried = carried + _from_zero(a.part(start, stop), b.part(start, stop), carried, model.inner)
            return carried
        case SplitK():
            for start, stop in _runs(length, model.parts, model.tile):
                carried = carried + _from_zero(a.part(start, stop), b.part(start, stop), carried, model.inner)
            return carried
        case Sequential():
            return _add_in_order(a, b, carried, is_fused=model.is_fused)
        case Pairwise():
            return carried + _add_pairs(a, b, carried)


def _from_zero(a: Operand, b: Operand, like: Tensor, model: Accumulator) -> Tensor:
    return _add_all(a, b, torch.zeros_like(like), model)


def _runs(length: int, parts: int, tile: int) -> Iterator[tuple[int, int]]:
    tiles = -(-length // tile)
    least, more = divmod(tiles, parts)
    start = 0
    for part in range(parts):
        stop = min(start + (least + (part < more)) * tile, length)
        if stop > start:
            yield start, stop
        start = stop


def _add_in_order(a: Operand, b: Operand, carried: Tensor, *, is_fused: bool) -> Tensor:
    for k in range(a.value.shape[-1]):
        product = a.value[..., k] * b.value[..., k]
        if is_fused:
            carried = add_rounded_once(product, carried.to(torch.float64))
        else:
            carried = carried + product.to(torch.float32)
    return carried


def _add_pairs(a: Operand, b: Operand, like: Tensor) -> Tensor:
    terms = (a.value * b.value).to(torch.float32)
    if terms.shape[-1] == 0:
        return torch.zeros_like(like)
    while terms.shape[-1] > 1:
        last = terms[..., 2 * (terms.shape[-1] // 2) :]
        terms = torch.cat([terms[..., : -1 if last.shape[-1] else None : 2] + terms[..., 1::2], last], -1)
    return terms[..., 0]
