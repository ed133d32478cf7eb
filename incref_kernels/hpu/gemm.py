"""A product of 8-bit floats by tensors of scales, as functions that are no operations call it."""

import torch
from torch import Tensor

__all__ = ["gemm"]


def gemm(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    dtype: torch.dtype,
    *,
    transposes_a: bool = False,
    transposes_b: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    """Multiply `a` [..., M, K] by `b` [..., K, N], either one transposed first, by `fp8_gemm_v2`."""
    y: Tensor = torch.ops.hpu.fp8_gemm_v2(a, transposes_a, b, transposes_b, None, dtype, a_scale, b_scale, bias)
    return y
