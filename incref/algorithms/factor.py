"""The factor of a Hessian, in the form that GPTQ reads column by column."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.algorithms.cholesky import factor_, permute_, restore_
from incref.config.method import GPTQ, ColumnOrder
from incref.numerics.checks import is_finite

__all__ = ["Factor", "factorize"]

_RAISE = 10.0


@dataclass(frozen=True, kw_only=True)
class Factor:
    """An upper triangular `V` with `H + damp * I = V @ V.T`, for the columns in the order that GPTQ takes.

    Attributes:
        upper: V, float64 [K, K]. Its inverse is U with `U.T @ U` the inverse of the matrix.
        order: int64 [K], the column of the weight that each of the factor is.
        is_dead: bool [K], the columns of the weight whose input was always zero. Their diagonal counts as 1.
        damp: what was added to the diagonal.
        is_raised: whether that is more than was asked for.
    """

    upper: Tensor
    order: Tensor
    is_dead: Tensor
    damp: float
    is_raised: bool


def factorize(hessian: Tensor, method: GPTQ, group_size: int, *, overwrite: bool = False) -> Factor:
    """Factorize a damped Hessian.

    Args:
        hessian: float64 or float32 [K, K], symmetric and positive semidefinite: a sum of `x.T @ x`, times any factor.
        method: `percdamp` and `order`.
        group_size: how many columns share scales, for the order within groups.
        overwrite: whether the factor takes the memory of `hessian`, if that is float64.

    Returns:
        The factor, computed in float64. `damp = percdamp * mean(diagonal)`; as long as `H + damp * I` has no finite
        factor, `damp` is raised tenfold, from at least `2**-52 * mean(diagonal)`.

    Raises:
        ValueError: if the Hessian is not finite.

    Source: arXiv 2210.17323, 3.3, step 3, takes the Cholesky factor of the inverse; see `gptq` for why this is enough.
    """
    H = hessian.to(torch.float64, copy=not overwrite)
    diagonal = H.diagonal().clone()
    if not is_finite(H):
        raise ValueError(
            "calibration data made the Hessian infinite or NaN; look for NaN or Inf in what the layer is fed"
        )
    is_dead = diagonal == 0
    diagonal[is_dead] = 1.0
    order = column_order(H.diagonal(), method.order, group_size)
    if method.order is not ColumnOrder.GIVEN:
        permute_(H, order)
    mean = float(diagonal.mean())
    wanted = damp = method.percdamp * mean
    H.diagonal().copy_(diagonal[order] + damp)
    while not factor_(H):
        damp = max(damp * _RAISE, torch.finfo(torch.float64).eps * mean)
        restore_(H, diagonal[order] + damp)
    return Factor(upper=H, order=order, is_dead=is_dead, damp=damp, is_raised=damp > wanted)


def column_order(diagonal: Tensor, order: ColumnOrder, group_size: int) -> Tensor:
    """The order in which columns are quantized, int64 [K]; see `ColumnOrder`."""
    if order is ColumnOrder.GIVEN:
        return torch.arange(len(diagonal), device=diagonal.device)
    if order is ColumnOrder.DESCENDING:
        return diagonal.argsort(descending=True, stable=True)
    groups: Sequence[Tensor] = diagonal.split(group_size)
    largest = torch.stack([group.max() for group in groups])
    within = [group.argsort(descending=True, stable=True) + i * group_size for i, group in enumerate(groups)]
    return torch.cat([within[i] for i in largest.argsort(descending=True, stable=True).tolist()])
