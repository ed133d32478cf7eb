"""Products of matrices of 8-bit integers, exact."""

import torch
from torch import Tensor

__all__ = ["integer_matmul"]

_EXACT_FLOAT32 = 1 << 24


def integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply `a` by the transpose of `b`.

    The sums of so many products are taken in float32 as it holds exactly, whatever their order; these are added as
    integers. Integers of 8 bits stay what they are where PyTorch is allowed to multiply float32 as TF32 or bfloat16.

    Args:
        a: int8 or uint8 [M, K].
        b: int8 or uint8 [N, K].

    Returns:
        int64 [M, N].
    """
    most = (max(-torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max) for x in (a, b))
    step = _EXACT_FLOAT32
    for magnitude in most:
        step //= magnitude
    out = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int64, device=a.device)
    for start in range(0, a.shape[1], step):
        part = slice(start, start + step)
        out += (a[:, part].to(torch.float32) @ b[:, part].to(torch.float32).T).to(torch.int64)
    return out
