"""Perplexity, as the formula says it: no sliding window, no padding, no special tokens."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["perplexity", "window_nll"]

# Positions whose logits are widened to float64 at once: 64 rows of 50,000 words are 25 MB.
_CHUNK = 64


def window_nll(model: nn.Module, tokens: Tensor, *, on_window: Callable[[], None] | None = None) -> Tensor:
    """Compute the mean negative log-likelihood of every window, in nats a token.

    Args:
        model: a causal language model, called as those of Hugging Face: `model(input_ids=..., use_cache=False).logits`.
            It sees one window at a time: some quantize activations with a scale over all that they are given.
        tokens: token ids, int64 [n, window].
        on_window: called after each window.

    Returns:
        float64 [n]: for the window `t_1 ... t_L`, `-1/(L-1) * sum(log p(t_i | t_1 ... t_(i-1)) for i = 2 ... L)`.
        The model computes in its own dtype; from its logits on, softmax and sums are in float64.

    Raises:
        ValueError: if `tokens` is not [n, window] with n >= 1 and window >= 2.
    """
    if tokens.ndim != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 2:
        raise ValueError(f"tokens must be [n, window], n >= 1 and window >= 2, got shape {tuple(tokens.shape)}")
    means: list[Tensor] = []
    with torch.inference_mode():
        for window in tokens:
            logits = model(input_ids=window[None], use_cache=False).logits[0]
            means.append(_mean_nll(logits[:-1], window[1:]))
            if on_window is not None:
                on_window()
    return torch.stack(means)


def perplexity(model: nn.Module, tokens: Tensor) -> float:
    """Compute the perplexity of `model` over windows of text, each predicted by itself.

    Args:
        model: as in `window_nll`.
        tokens: token ids, int64 [n, window].

    Returns:
        `exp(-1/(n * (L-1)) * sum(log p(t_i | t_1 ... t_(i-1)))`, the sum going over all windows and i = 2 ... L: the
        first token of a window is given, never predicted.

    Raises:
        ValueError: as `window_nll` does.
    """
    return math.exp(window_nll(model, tokens).mean().item())


def _mean_nll(logits: Tensor, targets: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for rows, wanted in zip(logits.split(_CHUNK), targets.split(_CHUNK), strict=True):
        wide = rows.double()
        total += (wide.logsumexp(-1) - wide.gather(-1, wanted[:, None]).squeeze(-1)).sum().cpu()
    return total / len(targets)
