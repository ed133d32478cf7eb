"""`fp8_attention`: attention whose probabilities leave the softmax as codes, by `softmax_fp8`.

`incref.nn.attention.Attention` on a Gaudi multiplies codes as well, but its softmax gives probabilities in the dtype of
the model, and a cast follows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats.gaudi import GAUDI
from incref_kernels.hpu.available import chip
from incref_kernels.hpu.casts import as_float8, to_float8
from incref_kernels.hpu.gemm import gemm
from incref_kernels.hpu.required import require_scales, require_values

__all__ = ["AttentionScales", "fp8_attention"]


@dataclass(frozen=True, kw_only=True)
class AttentionScales:
    """What the codes of every tensor are multiplied with, float32 [] each.

    Attributes:
        query: of queries.
        key: of keys.
        value: of values.
        probabilities: of what the softmax gives.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    probabilities: Tensor


def fp8_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scales: AttentionScales,
    *,
    factor: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Compute `softmax(query @ key.T * factor + mask) @ value` with products of codes of the chip's E4M3.

    Args:
        query: float32 or bfloat16 [..., L, E].
        key: [..., S, E], of the same dtype.
        value: [..., S, D], of the same dtype.
        scales: of all tensors.
        factor: of the scores; None for `1 / sqrt(E)`.
        mask: what is added to the scores, [..., L, S] or what broadcasts to it; None for nothing.

    Returns:
        [..., L, D] in the dtype of the query, by these steps:
        1. queries, keys and values become codes by casts that multiply with the reciprocal of the scale and round in
           the dtype of the tensor, and then once more to a code;
        2. the scores are the `fp8_bmm` of codes, in bfloat16;
        3. `softmax_fp8` multiplies them with `factor`, adds the mask, and multiplies the softmax with the reciprocal of
           the scale of probabilities: each of these steps, and the softmax, which is computed in float32, is rounded to
           bfloat16, and the last one then to a code. What is not known of that is an option of `HpuProfile`;
        4. the result is the `fp8_bmm` of codes.

    Raises:
        UnsupportedError: if there is no Gaudi and no simulation of one, or a tensor is elsewhere.
        TypeError: for another dtype.
    """
    require_values(query=query, key=key, value=value)
    require_scales(query=scales.query, key=scales.key, value=scales.value, probabilities=scales.probabilities)
    fmt = GAUDI[chip()].e4m3
    q, k, v = (
        as_float8(to_float8(tensor, scale.reciprocal(), fmt), fmt)
        for tensor, scale in ((query, scales.query), (key, scales.key), (value, scales.value))
    )
    scores = gemm(q, k, scales.query, scales.key, torch.bfloat16, transposes_b=True)
    number = torch.tensor(query.shape[-1] ** -0.5 if factor is None else factor, device=query.device)
    p = torch.ops.hpu.softmax_fp8(scores, -1, number, scales.probabilities.reciprocal(), None, mask)
    return gemm(p, v, scales.probabilities, scales.value, query.dtype)
