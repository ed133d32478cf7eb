"""The upper triangular factor of a matrix, in the memory of the matrix."""

import torch
from torch import Tensor

__all__ = ["factor_", "permute_", "restore_"]

_BLOCK = 256


def factor_(H: Tensor) -> bool:
    """Overwrite a symmetric matrix with the upper triangular V for which `V @ V.T` is the matrix.

    V is found a block of columns at a time, from the last to the first; beside H that takes the memory of two such
    blocks.

    Args:
        H: float64 [K, K].

    Returns:
        Whether there is a finite V. If not, H is left with the upper triangle and diagonal destroyed; see `restore_`.
    """
    blocks = [(start, min(start + _BLOCK, len(H))) for start in range(0, len(H), _BLOCK)]
    for start, stop in reversed(blocks):
        if not _factor_columns(H, start, stop):
            return False
    # Row by row, for a mask of all of H would take an eighth of its memory.
    if not all(bool(H[start:stop, start:].isfinite().all()) for start, stop in blocks):
        return False
    H.triu_()
    return True


def restore_(H: Tensor, diagonal: Tensor) -> None:
    """Give H its upper triangle, which is that below the diagonal, and a diagonal."""
    for start in range(0, len(H), _BLOCK):
        stop = min(start + _BLOCK, len(H))
        H[:start, start:stop] = H[start:stop, :start].T
        block = H[start:stop, start:stop].tril(-1)
        H[start:stop, start:stop] = block + block.T
    H.diagonal().copy_(diagonal)


def permute_(H: Tensor, order: Tensor) -> None:
    """Overwrite H with `H[order][:, order]`."""
    for columns in H.split(_BLOCK, dim=1):
        columns.copy_(columns[order])
    for rows in H.split(_BLOCK):
        rows.copy_(rows[:, order])


def _factor_columns(H: Tensor, start: int, stop: int) -> bool:
    """Overwrite columns of H, down to the diagonal, with those of V; later columns are those of V already."""
    later = H[start:stop, stop:]
    block = H[start:stop, start:stop]
    # The Cholesky factor of the block with rows and columns reversed is that of V reversed.
    lower, info = torch.linalg.cholesky_ex(torch.addmm(block, later, later.T, alpha=-1).flip(0, 1))
    if int(info) != 0:
        return False
    upper = lower.flip(0, 1)
    above = torch.addmm(H[:start, start:stop], H[:start, stop:], later.T, alpha=-1)
    H[:start, start:stop] = torch.linalg.solve_triangular(upper.T, above, upper=False, left=False)
    # Below the diagonal H stays as it is.
    block.copy_(upper + block.tril(-1))
    return True
