"""Coordinate descent on the codes that GPTQ found: each in turn becomes the best one beside all others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.algorithms.columns import ColumnQuantizer, Scales

__all__ = ["refine_"]

_BLOCK = 64
_PANEL = 1024


def refine_(
    codes: Tensor,
    values: Tensor,
    *,
    weight: Tensor,
    upper: Tensor,
    scales: Sequence[Scales],
    quantizer: ColumnQuantizer,
    sweeps: int,
) -> float:
    """Let the squared error that calibration data sees fall further, with the scales as they are.

    With `H = V @ V.T` and `R = (Q - W) @ V` the error is `sum(R ** 2)`. As a function of one column of Q it is least at
    `t_j = q_j - (R @ V.T)_j / H_jj`, row by row, and `H_jj * (q - t_j) ** 2` more elsewhere. In a sweep each column, in
    the order of GPTQ, becomes `quantize(t_j)` in the rows where that is nearer to `t_j` than what is there. So the
    error never rises, but for what float64 rounds; a sweep that changes nothing is the last.

    Args:
        codes: [K, N], columns of the weight as rows, in the order of GPTQ; replaced.
        values: float32 [K, N], what they dequantize to; replaced.
        weight: float32 [K, N].
        upper: V, float64 [K, K], upper triangular; see `incref.algorithms.factor.Factor`.
        scales: of each column.
        quantizer: of columns.
        sweeps: how often every column is visited, at least once.

    Returns:
        The error, `trace((Q - W) @ H @ (Q - W).T)`.

    Source: arXiv 2309.01885 (QuantEase), algorithm 1, and arXiv 2406.17542 (CDQuant), that start elsewhere; through V,
    so that H is not needed.
    """
    size = len(codes)
    residual = torch.zeros_like(values, dtype=torch.float64)  # R.T
    for low in range(0, size, _PANEL):
        panel = slice(low, low + _PANEL)
        difference = values[panel].to(torch.float64) - weight[panel]
        residual[low:].addmm_(upper[panel, low:].T, difference)
    for _ in range(sweeps):
        is_changed = False
        for start in range(0, size, _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = upper[block, start:]
            slopes = rows @ residual[start:]
            changes = _sweep_block(
                codes[block],
                values[block],
                slopes=slopes,
                hessian=rows @ rows.T,
                scales=scales[block],
                quantizer=quantizer,
            )
            if bool(changes.any()):
                is_changed = True
                residual[start:].addmm_(rows.T, changes)
        if not is_changed:
            break
    return float(residual.square_().sum())


def _sweep_block(
    codes: Tensor,
    values: Tensor,
    *,
    slopes: Tensor,
    hessian: Tensor,
    scales: Sequence[Scales],
    quantizer: ColumnQuantizer,
) -> Tensor:
    """Visit the columns of a block once, and give by how much each value rose, float64 [n, N].

    Args:
        codes: [n, N], replaced.
        values: [n, N], replaced.
        slopes: half the derivative of the error by every value [n, N], as it is before the block; replaced.
        hessian: of the block [n, n].
        scales: of each column.
        quantizer: of columns.
    """
    changes = torch.empty_like(slopes)
    curvatures: list[float] = hessian.diagonal().tolist()
    for j, curvature in enumerate(curvatures):
        old = values[j].to(torch.float64)
        best = old - slopes[j] / curvature
        found, new = quantizer.quantize(best.to(torch.float32), scales[j])
        is_better = (new - best).abs() < (old - best).abs()
        codes[j] = torch.where(is_better, found, codes[j])
        values[j] = torch.where(is_better, new, values[j])
        change = torch.sub(values[j], old, out=changes[j])
        slopes[j + 1 :].addr_(hessian[j, j + 1 :], change)
    return changes
