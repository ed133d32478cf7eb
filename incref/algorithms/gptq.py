"""GPTQ: quantize the columns of a weight one by one, and let those to come make up for the error."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.algorithms.columns import ColumnQuantizer, Scales, column_quantizer
from incref.algorithms.factor import Factor, factorize
from incref.config.method import GPTQ, ColumnOrder, DeadColumns, GroupScales
from incref.qtensor.parts import Parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["GPTQResult", "gptq"]

_LAZY = 32
"""How many columns are quantized before the rest of their block is updated."""


@dataclass(frozen=True, kw_only=True)
class GPTQResult:
    """A weight that GPTQ quantized.

    Attributes:
        qweight: the weight [N, K].
        loss: the squared error that calibration data sees, `trace((Q - W) @ (H + damp * I) @ (Q - W).T)`, as the sum
            of what each column contributed.
        factor: what was factorized.
    """

    qweight: QTensor
    loss: float
    factor: Factor


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Which columns share scales, in the order of quantization.

    Attributes:
        of: for every column the index of its group.
        starts: for a group whose columns follow each other, its first column and how many there are.
    """

    of: list[int]
    starts: dict[int, tuple[int, int]]


def gptq(
    weight: Tensor,
    hessian: Tensor,
    spec: QuantSpec,
    method: GPTQ,
    *,
    dtype: torch.dtype = torch.float32,
    factor: Factor | None = None,
    quantizer: ColumnQuantizer | None = None,
    overwrite: bool = False,
) -> GPTQResult:
    """Quantize `weight` so that the output for calibration data changes little, in any format.

    For column `j`, in the order of the method: `q = quantize(w_j)`, `e = (w_j - q) / U[j, j]`, and every later column
    `k` becomes `w_k - e * U[j, k]`, where `U.T @ U` is the inverse of the damped Hessian.

    Args:
        weight: float64, float32, bfloat16 or float16 [N, K], finite.
        hessian: float64 or float32 [K, K]: the sum of `x.T @ x` over calibration data x [tokens, K], times any factor.
        spec: how weights are quantized.
        method: the order of columns and what else is chosen.
        dtype: float32 or float64: what updates are computed in. A column is rounded to float32 before it is quantized.
        factor: of `hessian`, if it is known already; it has to be made with the same method and groups.
        quantizer: of columns, if there is one already, for a weight that this one is a part of.
        overwrite: whether the factor takes the memory of `hessian`.

    Returns:
        The quantized weight, with `order` if columns that are not neighbours share scales, and how well it went.

    Raises:
        ValueError: for shapes that don't fit, or a weight or Hessian that is not finite.
        UnsupportedError: see `column_quantizer`.

    Source: arXiv 2210.17323, algorithm 1.
    """
    if tuple(hessian.shape) != 2 * tuple(weight.shape[1:]):
        raise ValueError(
            f"a weight [N, K] needs a Hessian [K, K], got {tuple(weight.shape)} and {tuple(hessian.shape)}"
        )
    original = weight.to(torch.float32)
    if not bool(original.isfinite().all()):
        raise ValueError("GPTQ needs a weight that is finite in float32")
    if quantizer is None:
        quantizer = column_quantizer(original, spec, use_mse_search=method.use_mse_search)
    if factor is None:
        factor = factorize(hessian, method, quantizer.group_size, overwrite=overwrite)
    run = _Run(original, factor, quantizer, method, dtype)
    del original
    run.finish()
    parts, order = run.result()
    qweight = QTensor.from_parts(parts, spec, weight.dtype, order=order)
    return GPTQResult(qweight=qweight, loss=run.loss, factor=factor)


class _Run:
    """The state of one quantization; columns are kept as rows, so that each is contiguous."""

    def __init__(
        self, weight: Tensor, factor: Factor, quantizer: ColumnQuantizer, method: GPTQ, dtype: torch.dtype
    ) -> None:
        self._factor, self._quantizer, self._method = factor, quantizer, method
        columns = weight.shape[1]
        self._groups = _form_groups(factor.order, columns, quantizer.group_size, method)
        # The rows of the factor that belong to a block, in the dtype of updates.
        self._upper = factor.upper[:0].to(dtype)
        self._pivots: list[float] = factor.upper.diagonal().to(dtype).tolist()
        self._w = weight.T[factor.order].to(dtype).contiguous()  # [K, N]
        is_zeroed = method.dead_columns is DeadColumns.ZERO
        if is_zeroed:
            self._w[factor.is_dead[factor.order]] = 0.0
        self._first = 0
        self._codes: list[Tensor] = []
        self._scales: dict[int, Scales] = {}
        self.loss = 0.0
        if method.group_scales is GroupScales.ORIGINAL:
            columns_left = torch.where(factor.is_dead & is_zeroed, 0.0, weight)
            for index, group in enumerate(columns_left.split(quantizer.group_size, dim=1)):
                self._scales[index] = quantizer.scales(group)

    def finish(self) -> None:
        """Quantize all columns."""
        for start, stop in self._blocks():
            if self._method.group_scales is GroupScales.BLOCK:
                for first in range(start, stop):
                    self._start_group(first)
            self._first, self._upper = start, self._factor.upper[start:stop].to(self._w.dtype)
            errors = self._quantize_block(start, stop)
            self._update(errors, start, stop, len(self._w))
            # Errors are finite if and only if the weights were.
            loss = float(errors.square().sum(dtype=torch.float64))
            if not math.isfinite(loss):
                raise ValueError("the weights grew beyond float32 as they made up for errors; raise percdamp")
            self.loss += loss

    def _quantize_block(self, start: int, stop: int) -> Tensor:
        """Quantize the columns of a block, and give their errors [stop - start, N]."""
        errors = torch.empty_like(self._w[start:stop])
        for low, high in self._sub_blocks(start, stop):
            for j in range(low, high):
                self._start_group(j)
                column = self._w[j]
                codes, values = self._quantizer.quantize(column.to(torch.float32), self._scales[self._groups.of[j]])
                self._codes.append(codes)
                error = torch.sub(column, values, out=errors[j - start]).div_(self._pivots[j])
                if j + 1 < high:
                    self._w[j + 1 : high].addr_(self._upper[j - start, j + 1 : high], error, alpha=-1)
            self._update(errors[low - start : high - start], low, high, stop)
        return errors

    def _update(self, errors: Tensor, low: int, high: int, stop: int) -> None:
        """Let the columns from `high` to `stop` make up for the errors of those from `low` to `high`."""
        if high < stop:
            rows = self._upper[low - self._first : high - self._first, high:stop]
            self._w[high:stop].addmm_(rows.T, errors, alpha=-1)

    def _start_group(self, j: int) -> None:
        """Compute the scales of the group that starts at column `j`, if one does that has none yet."""
        if j not in self._groups.starts:
            return
        group, size = self._groups.starts[j]
        if group not in self._scales:
            self._scales[group] = self._quantizer.scales(self._w[j : j + size].T.to(torch.float32).contiguous())

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Blocks of up to `block_size` columns. A group that reaches beyond its block starts one, to be up to date."""
        start, size = 0, len(self._w)
        while start < size:
            stop = min(start + self._method.block_size, size)
            if self._method.group_scales is GroupScales.CURRENT:
                crossing = [j for j, (_, n) in self._groups.starts.items() if start < j < stop < j + n]
                stop = min([stop, *crossing])
            yield start, stop
            start = stop

    def _sub_blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Pieces of a block; a group whose scales are computed on the way starts one."""
        is_current = self._method.group_scales is GroupScales.CURRENT
        cuts = {j for j in range(start, stop) if (j - start) % _LAZY == 0 or (is_current and j in self._groups.starts)}
        edges = [*sorted(cuts), stop]
        yield from itertools.pairwise(edges)

    def result(self) -> tuple[Parts, Tensor | None]:
        """Codes and scales, and the order of the columns if it is not that of the weight."""
        order = self._factor.order
        codes = torch.stack(self._codes, dim=1)
        groups = [self._scales[index] for index in sorted(self._scales)]
        is_mixed = (
            self._method.order is ColumnOrder.DESCENDING and self._method.group_scales is not GroupScales.ORIGINAL
        )
        if is_mixed and len(groups) > 1 and self._quantizer.group_size > 1:
            return self._quantizer.assemble(codes, groups), order.to(torch.int32)
        if is_mixed and len(groups) > 1:
            # Every column is a group: its scales go where it goes.
            groups = [groups[index] for index in order.argsort().tolist()]
        placed = torch.empty_like(codes).index_copy_(1, order, codes)
        return self._quantizer.assemble(placed, groups), None


def _form_groups(order: Tensor, columns: int, group_size: int, method: GPTQ) -> _Groups:
    """Say which columns share scales, by their place in `order`."""
    places = range(columns)
    is_by_place = method.order is ColumnOrder.DESCENDING and method.group_scales is not GroupScales.ORIGINAL
    of = [(j if is_by_place else column) // group_size for j, column in zip(places, order.tolist(), strict=True)]
    starts: dict[int, tuple[int, int]] = {}
    if method.group_scales is not GroupScales.ORIGINAL:
        for j in places:
            if j == 0 or of[j] != of[j - 1]:
                starts[j] = (of[j], of.count(of[j]))
    return _Groups(of=of, starts=starts)
