"""Matrix products in which NaN and Inf take part."""

import torch
from torch import Tensor

from incref.numerics.exact_matmul import exact_matmul

__all__ = ["matmul_with_specials"]


def matmul_with_specials(a: Tensor, b: Tensor) -> Tensor:
    """Multiply `a` by the transpose of `b` exactly; see `exact_matmul`.

    A NaN makes its whole row or column of the result NaN. `0 * Inf` and infinities of both signs in one sum give NaN,
    infinities of one sign that Inf; no finite sum is Inf.

    Args:
        a: float64 [M, K].
        b: float64 [N, K].
    """
    if a.isfinite().all() and b.isfinite().all():
        return exact_matmul(a, b)
    out = exact_matmul(_finite_part(a), _finite_part(b))
    if a.isinf().any() or b.isinf().any():
        out = _put_infinities(out, a, b)
    is_nan = a.isnan().any(-1).unsqueeze(1) | b.isnan().any(-1).unsqueeze(0)
    return torch.where(is_nan, torch.nan, out)


def _finite_part(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0.0)


def _put_infinities(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Write Inf and NaN where products are infinite or `0 * Inf`, by counting them."""
    up, down = (_count(a, b, sign) > 0 for sign in (1.0, -1.0))
    is_undefined = _indicators(a.isinf(), a == 0) @ _indicators(b == 0, b.isinf()).T > 0
    out = torch.where(up, torch.inf, torch.where(down, -torch.inf, out))
    return torch.where((up & down) | is_undefined, torch.nan, out)


def _count(a: Tensor, b: Tensor, sign: float) -> Tensor:
    """Count the infinite products of a sign: where one factor is Inf and the other has the sign that makes it so."""
    left = _indicators(a == torch.inf, a == -torch.inf, a > 0, a < 0)
    right = _indicators(sign * b > 0, sign * b < 0, sign * b == torch.inf, sign * b == -torch.inf)
    return left @ right.T


def _indicators(*conditions: Tensor) -> Tensor:
    return torch.cat(conditions, -1).to(torch.float32)
