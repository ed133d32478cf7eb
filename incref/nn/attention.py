"""`Attention`: scaled dot product attention, step by step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.nn.matmul import Matmul

__all__ = ["Attention"]


class Attention(nn.Module):
    """Compute `softmax(q @ k.T * scale + mask) @ v` with two products that a configuration can speak of.

    Attributes:
        qk: the product of queries [..., L, E] and keys [..., E, S].
        pv: the product of probabilities [..., L, S] and values [..., S, D].
    """

    def __init__(self) -> None:
        """Make the products."""
        super().__init__()
        self.qk = Matmul()
        self.pv = Matmul()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        *,
        scale: float | None = None,
        is_causal: bool = False,
        softcap: float | None = None,
        dropout: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            query: [B, heads, L, E].
            key: [B, key heads, S, E]; heads have to be a multiple of key heads, and share each one with their
                neighbours.
            value: [B, key heads, S, D].
            mask: added to the scores; or bool, true where a query sees a key: a query that sees none sees all alike. It
                broadcasts to [B, heads, L, S].
            scale: of the scores; None for `1 / sqrt(E)`.
            is_causal: whether query i sees no key after `S - L + i`; in place of a mask.
            softcap: c of `c * tanh(scores / c)`, before the mask; None for none.
            dropout: the part of the probabilities that is dropped.

        Returns:
            The result [B, heads, L, D] and the probabilities [B, heads, L, S]. The softmax is computed in float32 and
            rounded to the dtype of `query`.

        Raises:
            ValueError: if heads don't go into heads, or for a mask beside `is_causal`.
        """
        if query.shape[1] % key.shape[1]:
            raise ValueError(f"{key.shape[1]} key heads must divide the number of heads, {query.shape[1]}")
        if is_causal and mask is not None:
            raise ValueError("give a mask, or is_causal=True, not both")
        repeats = query.shape[1] // key.shape[1]
        key, value = (heads.repeat_interleave(repeats, dim=1) if repeats > 1 else heads for heads in (key, value))
        scores = self.qk(query, key.transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if is_causal:
            length, seen = scores.shape[-2:]
            mask = torch.ones(length, seen, dtype=torch.bool, device=scores.device).tril(seen - length)
        if mask is not None and mask.dtype is torch.bool:
            # The least that float32, too, can hold: an Inf in all of a row would make NaN of it.
            least = max(torch.finfo(scores.dtype).min, torch.finfo(torch.float32).min)
            scores = scores.masked_fill(~mask, least)
        elif mask is not None:
            scores = scores + mask
        probabilities = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        kept = F.dropout(probabilities, p=dropout, training=dropout > 0)
        return self.pv(kept, value), probabilities
