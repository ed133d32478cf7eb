"""GPTQ: quantize the columns of a weight one by one, and let those to come make up for the error."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.algorithms.columns import ColumnQuantizer, Scales, column_quantizer
from incref.algorithms.factor import Factor, factorize
from incref.algorithms.refine import refine_
from incref.config.method import GPTQ, ColumnOrder, DeadColumns, GroupScales
from incref.numerics.checks import is_finite
from incref.qtensor.parts import Parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["GPTQResult", "gptq"]

_BLOCK = 256
_LAZY = 64
_PANEL = 1024


@dataclass(frozen=True, kw_only=True)
class GPTQResult:
    """A weight that GPTQ quantized.

    Attributes:
        qweight: the weight [N, K].
        loss: the squared error that calibration data sees, `trace((Q - W) @ (H + damp * I) @ (Q - W).T)`.
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

    U is the inverse of the factor V of the Hessian itself, and never needed as a whole. Columns are quantized in
    blocks: `w_B - (Q - W)_A @ V[A, B] @ inverse(V[B, B])` is what a block B has become by the errors of all columns A
    before it, and within a block U is `inverse(V[B, B])`.

    With `refine_sweeps` in the method, coordinate descent goes on from there: see `incref.algorithms.refine`.

    Args:
        weight: float64, float32, bfloat16 or float16 [N, K], finite.
        hessian: float64 or float32 [K, K]: the sum of `x.T @ x` over calibration data x [tokens, K], times any factor.
        spec: how weights are quantized.
        method: the order of columns and what else is chosen.
        dtype: float32 or float64: what updates are computed in. A column is rounded to float32 before it is quantized.
            What is multiplied with errors is computed in float64 first.
        factor: of `hessian`, if it is known already; it has to be made with the same method and groups.
        quantizer: of columns, if there is one already, for a weight that this one is a part of.
        overwrite: whether the factor takes the memory of `hessian`.

    Returns:
        The quantized weight, with `order` if columns that are not neighbours share scales, and how well it went.

    Raises:
        ValueError: for shapes that don't fit, or a weight or Hessian that is not finite.
        UnsupportedError: see `column_quantizer`.

    Source: arXiv 2210.17323, algorithm 1; without the inverse: arXiv 2507.18553, that it is Babai's nearest plane.
    """
    if tuple(hessian.shape) != 2 * tuple(weight.shape[1:]):
        raise ValueError(
            f"a weight [N, K] needs a Hessian [K, K], got {tuple(weight.shape)} and {tuple(hessian.shape)}"
        )
    original = weight.to(torch.float32)
    if not is_finite(original):
        raise ValueError("GPTQ needs a weight that is finite in float32")
    if quantizer is None:
        quantizer = column_quantizer(original, spec, use_mse_search=method.use_mse_search)
    if factor is None:
        factor = factorize(hessian, method, quantizer.group_size, overwrite=overwrite)
    run = _Run(original, factor, quantizer, method, dtype)
    if not method.refine_sweeps:
        del original
        run.finish()
    else:
        run.finish()
        run.refine(original)
    parts, order = run.result()
    qweight = QTensor.from_parts(parts, spec, weight.dtype, order=order)
    return GPTQResult(qweight=qweight, loss=run.loss, factor=factor)


class _Run:
    """The state of one quantization; columns are kept as rows, so that each is contiguous."""

    def __init__(
        self, weight: Tensor, factor: Factor, quantizer: ColumnQuantizer, method: GPTQ, dtype: torch.dtype
    ) -> None:
        self._factor, self._quantizer, self._method = factor, quantizer, method
        self._groups = _form_groups(factor.order, weight.shape[1], quantizer.group_size, method)
        # The weight; of columns that are quantized, by how much it was more than what it became.
        self._w = self._in_order(weight).to(dtype)
        self._codes: list[Tensor] = []
        self._values: list[Tensor] = []  # of blocks, if they are refined
        self._scales: dict[int, Scales] = {}
        self.loss = 0.0
        if method.group_scales is GroupScales.ORIGINAL:
            is_zeroed = method.dead_columns is DeadColumns.ZERO
            columns_left = torch.where(factor.is_dead & is_zeroed, 0.0, weight)
            for index, group in enumerate(columns_left.split(quantizer.group_size, dim=1)):
                self._scales[index] = quantizer.scales(group)

    def finish(self) -> None:
        """Quantize all columns."""
        for start, stop in self._blocks():
            if self._method.group_scales is GroupScales.BLOCK and start % self._method.block_size == 0:
                self._scale_groups(start, start + self._method.block_size)
            errors = self._quantize_block(start, self._current(start, stop), self._inverse(start, stop))
            # Errors are finite if and only if the weights were.
            loss = float(errors.square_().sum(dtype=torch.float64))
            if not math.isfinite(loss):
                raise ValueError("the weights grew beyond float32 as they made up for errors; raise percdamp")
            self.loss += loss

    def refine(self, weight: Tensor) -> None:
        """Let the error fall further by coordinate descent."""
        codes, values = torch.stack(self._codes), torch.cat(self._values).to(torch.float32)
        scales = [self._scales[group] for group in self._groups.of]
        self.loss = refine_(
            codes,
            values,
            weight=self._in_order(weight),
            upper=self._factor.upper,
            scales=scales,
            quantizer=self._quantizer,
            sweeps=self._method.refine_sweeps,
        )
        self._codes = list(codes.unbind())

    def _in_order(self, weight: Tensor) -> Tensor:
        """The columns of `weight` as rows [K, N], in the order of quantization, without those that are dead."""
        if self._method.order is ColumnOrder.GIVEN:
            # A third of the time of an index.
            columns = weight.T.clone(memory_format=torch.contiguous_format)
        else:
            columns = weight.T[self._factor.order].contiguous()
        if self._method.dead_columns is DeadColumns.ZERO:
            columns[self._factor.is_dead[self._factor.order]] = 0.0
        return columns

    def _current(self, start: int, stop: int) -> Tensor:
        """What columns became by the errors of all before `start` [n, N]."""
        upper = self._factor.upper
        own = upper[start:stop, start:stop]
        current = self._w[start:stop].clone()
        for low in range(0, start, _PANEL):
            earlier = slice(low, min(low + _PANEL, start))
            spread = torch.linalg.solve_triangular(own.T, upper[earlier, start:stop].T, upper=False)  # [n, earlier]
            current.addmm_(spread.to(current.dtype), self._w[earlier])
        return current

    def _inverse(self, start: int, stop: int) -> Tensor:
        """How the errors of columns spread among them [n, n]."""
        own = self._factor.upper[start:stop, start:stop]
        eye = torch.eye(stop - start, dtype=own.dtype, device=own.device)
        inverse: Tensor = torch.linalg.solve_triangular(own, eye, upper=True)
        return inverse.to(self._w.dtype)

    def _quantize_block(self, start: int, current: Tensor, inverse: Tensor) -> Tensor:
        """Quantize the columns of a block from `start` on, and give their errors [n, N]."""
        pivots: list[float] = inverse.diagonal().tolist()
        errors, values = torch.empty_like(current), torch.empty_like(current)
        size = len(current)
        for low, high in self._sub_blocks(start, size):
            self._start_group(start + low, current[low:])
            found = self._quantize_in_turn(start, low, high, current, inverse)
            if found is not None:
                codes, values[low:high], errors[low:high] = found
                self._codes += codes.unbind()
            for j in range(low, high if found is None else low):
                self._start_group(start + j, current[j:])
                column = current[j]
                scales = self._scales[self._groups.of[start + j]]
                codes, value = self._quantizer.quantize(column.to(torch.float32), scales)
                self._codes.append(codes)
                values[j] = value
                error = torch.sub(column, value, out=errors[j]).div_(pivots[j])
                # Two roundings, as `gptq_update` has, whether there is a kernel of it or not.
                current[j + 1 : high].sub_(torch.outer(inverse[j, j + 1 : high], error))
            if high < size:
                current[high:].addmm_(inverse[low:high, high:].T, errors[low:high], alpha=-1)
        self._w[start : start + size].sub_(values)
        if self._method.refine_sweeps:
            self._values.append(values)
        return errors

    def _quantize_in_turn(
        self, start: int, low: int, high: int, current: Tensor, inverse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Quantize a piece of a block at once, if its columns share scales and there is a kernel for it."""
        groups = set(self._groups.of[start + low : start + high])
        if len(groups) > 1:
            return None
        (group,) = groups
        return self._quantizer.quantize_in_turn(current[low:high], inverse[low:high, low:high], self._scales[group])

    def _start_group(self, j: int, current: Tensor) -> None:
        """Compute the scales of the group that starts at column `j`, if one does that has none yet.

        Args:
            j: a column.
            current: the columns from there to the end of the block, as they are now.
        """
        if j not in self._groups.starts:
            return
        group, size = self._groups.starts[j]
        if group not in self._scales:
            # Only a block that it starts does not have all of it.
            columns = current[:size] if size <= len(current) else self._current(j, j + size)
            self._scales[group] = self._quantizer.scales(columns.T.to(torch.float32).contiguous())

    def _scale_groups(self, start: int, stop: int) -> None:
        """Compute the scales of all groups that start in a stretch of columns, as these are now."""
        starts = [j for j in self._groups.starts if start <= j < stop]
        ends = [j + self._groups.starts[j][1] for j in starts]
        if starts:
            current = self._current(start, max(ends))
            for j in starts:
                self._start_group(j, current[j - start :])

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Blocks of columns. A group that is scaled on the way and reaches beyond its block starts one."""
        start, size = 0, len(self._w)
        scales = self._method.group_scales
        while start < size:
            stop = min(start + _BLOCK, size)
            if scales is GroupScales.BLOCK:
                stop = min(stop, (start // self._method.block_size + 1) * self._method.block_size)
            if scales is GroupScales.CURRENT:
                crossing = [j for j, (_, n) in self._groups.starts.items() if start < j < stop < j + n]
                stop = min([stop, *crossing])
            yield start, stop
            start = stop

    def _sub_blocks(self, start: int, size: int) -> Iterator[tuple[int, int]]:
        """Pieces of a block; a group whose scales are computed on the way starts one."""
        is_current = self._method.group_scales is GroupScales.CURRENT
        cuts = [j for j in range(size) if j % _LAZY == 0 or (is_current and start + j in self._groups.starts)]
        yield from itertools.pairwise([*cuts, size])

    def result(self) -> tuple[Parts, Tensor | None]:
        """Codes and scales, and the order of the columns if it is not that of the weight."""
        order = self._factor.order
        codes = torch.stack(self._codes)  # [K, N]
        groups = [self._scales[index] for index in sorted(self._scales)]
        is_mixed = (
            self._method.order is ColumnOrder.DESCENDING and self._method.group_scales is not GroupScales.ORIGINAL
        )
        if is_mixed and len(groups) > 1 and self._quantizer.group_size > 1:
            return self._quantizer.assemble(codes.T.contiguous(), groups), order.to(torch.int32)
        if is_mixed and len(groups) > 1:
            # Every column is a group: its scales go where it goes.
            groups = [groups[index] for index in order.argsort().tolist()]
        if self._method.order is not ColumnOrder.GIVEN:
            codes = codes[order.argsort()]
        return self._quantizer.assemble(codes.T.contiguous(), groups), None


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
