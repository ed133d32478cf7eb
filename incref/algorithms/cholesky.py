"""The upper triangular factor of a matrix, in the memory of the matrix."""

import torch
from torch import Tensor

__all__ = ["factor_", "permute_", "restore_"]

_BLOCK = 128
"""Of what is halved no further."""


def factor_(H: Tensor) -> bool:
    """Overwrite a symmetric matrix with the upper triangular V for which `V @ V.T` is the matrix.

    The last half of V is found first, then what is above it, then, of what they leave of the matrix, the first half;
    so almost all of it are large products. Beside H that takes the memory of blocks of 128 on its diagonal.

    Args:
        H: float64 [K, K].

    Returns:
        Whether there is a finite V. If not, H is left with the upper triangle and diagonal destroyed; see `restore_`.
    """
    blocks = [(start, start + _BLOCK) for start in range(0, len(H), _BLOCK)]
    # Products overwrite what is below the diagonal of these, but of no others.
    kept = [H[start:stop, start:stop].clone() for start, stop in blocks]
    # An element of V that is not finite makes the one on the diagonal of its row NaN, which is found after it.
    if _factor(H) and bool(H.diagonal().isfinite().all()):
        H.triu_()
        return True
    for (start, stop), block in zip(blocks, kept, strict=True):
        H[start:stop, start:stop] = block
    return False


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


def _half(size: int) -> int:
    """Where to cut: a multiple of the block, but for the first half of the last blocks."""
    return size // (2 * _BLOCK) * _BLOCK or _BLOCK


def _factor(H: Tensor) -> bool:
    """Overwrite H, on and above the diagonal, with V, and say whether there is one."""
    if len(H) <= _BLOCK:
        # The Cholesky factor of the matrix with rows and columns reversed is that of V reversed.
        lower, info = torch.linalg.cholesky_ex(H.flip(0, 1))
        H.copy_(lower.flip(0, 1))
        return int(info) == 0
    half = _half(len(H))
    first, above, last = H[:half, :half], H[:half, half:], H[half:, half:]
    if not _factor(last):
        return False
    _divide(above, last)
    _subtract_products(first, above)
    return _factor(first)


def _divide(above: Tensor, V: Tensor) -> None:
    """Overwrite `above` with the X for which `X @ V.T` is what it was."""
    if len(V) <= _BLOCK:
        torch.linalg.solve_triangular(V, above.T, upper=True, out=above.T)
        return
    half = _half(len(V))
    _divide(above[:, half:], V[half:, half:])
    above[:, :half].addmm_(above[:, half:], V[:half, half:].T, alpha=-1)
    _divide(above[:, :half], V[:half, :half])


def _subtract_products(H: Tensor, rows: Tensor) -> None:
    """Subtract `rows @ rows.T` from H, on and above the diagonal."""
    if len(H) <= _BLOCK:
        H.addmm_(rows, rows.T, alpha=-1)
        return
    half = _half(len(H))
    H[:half, half:].addmm_(rows[:half], rows[half:].T, alpha=-1)
    _subtract_products(H[:half, :half], rows[:half])
    _subtract_products(H[half:, half:], rows[half:])
