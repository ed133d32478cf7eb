"""GPTQ as the paper states it: one column at a time, with the inverse Hessian itself, in float64."""

import torch
from torch import Tensor

from incref.algorithms.columns import Scales, column_quantizer
from incref.algorithms.factor import column_order
from incref.config.method import GPTQ, ColumnOrder, DeadColumns, GroupScales
from incref.qtensor.spec import QuantSpec

__all__ = ["gptq_reference"]


def gptq_reference(weight: Tensor, hessian: Tensor, spec: QuantSpec, method: GPTQ) -> Tensor:
    """Quantize `weight` as `gptq` does, without blocks, lazy updates or factorizations.

    Written beside the paper, for checking: in step `j` the error of column `j` is spread over all columns that are left
    by equation 2, and `j` is taken out of the inverse by equation 3. The damping is the one asked for.

    Args:
        weight: [N, K], finite.
        hessian: [K, K].
        spec: how weights are quantized.
        method: as in `gptq`, but for `block_size`, which has no effect: `GroupScales.BLOCK` is not for it.

    Returns:
        The dequantized weight, float32 [N, K].

    Source: arXiv 2210.17323, equations 2 and 3; for `refine_sweeps` arXiv 2309.01885, algorithm 1.
    """
    if method.group_scales is GroupScales.BLOCK:
        raise ValueError("the reference has no blocks; use CURRENT or ORIGINAL")
    W = weight.to(torch.float64, copy=True)
    H = hessian.to(torch.float64, copy=True)
    quantizer = column_quantizer(W.to(torch.float32), spec, use_mse_search=method.use_mse_search)
    size = quantizer.group_size
    order = column_order(H.diagonal(), method.order, size).tolist()

    is_dead = H.diagonal() == 0
    H.diagonal()[is_dead] = 1.0
    if method.dead_columns is DeadColumns.ZERO:
        W[:, is_dead] = 0.0
    H.diagonal().add_(method.percdamp * H.diagonal().mean())
    Hinv = torch.linalg.inv(H)
    original = W.clone()

    is_original = method.group_scales is GroupScales.ORIGINAL
    is_by_place = method.order is ColumnOrder.DESCENDING and not is_original
    group_of = {j: (place if is_by_place else j) // size for place, j in enumerate(order)}
    scales: dict[int, Scales] = {}
    if is_original:
        scales = {i: quantizer.scales(group) for i, group in enumerate(W.to(torch.float32).split(size, dim=1))}

    Q = torch.empty(W.shape, dtype=torch.float32)
    left = torch.ones(W.shape[1], dtype=torch.bool)
    for j in order:
        group = group_of[j]
        if group not in scales:
            members = [k for k in order if group_of[k] == group]
            scales[group] = quantizer.scales(W[:, members].to(torch.float32))
        _, Q[:, j] = quantizer.quantize(W[:, j].to(torch.float32), scales[group])
        left[j] = False
        error = (W[:, j] - Q[:, j]) / Hinv[j, j]
        W[:, left] -= torch.outer(error, Hinv[j, left])
        Hinv -= torch.outer(Hinv[:, j], Hinv[j, :]) / Hinv[j, j]
    for j in order * method.refine_sweeps:
        best = Q[:, j] - (Q - original) @ H[:, j] / H[j, j]
        _, value = quantizer.quantize(best.to(torch.float32), scales[group_of[j]])
        Q[:, j] = torch.where((value - best).abs() < (Q[:, j] - best).abs(), value, Q[:, j])
    return Q
