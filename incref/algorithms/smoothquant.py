"""SmoothQuant: scales of features that make inputs easier to quantize, and weights harder (arXiv 2211.10438)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.config.smoothing import SharedAlpha

__all__ = ["choose_alpha", "share_alpha", "smoothing_scale"]

_LEAST = 1e-5


def smoothing_scale(x_amax: Tensor, w_amax: Tensor, alpha: float) -> Tensor:
    """Compute what the features of an input are divided by, and those of the weight are multiplied with.

    Args:
        x_amax: the largest magnitude of every feature of the input, [K].
        w_amax: that of the weight, over all that is multiplied with the input, [K].
        alpha: from 0 to 1.

    Returns:
        float32 [K]: `s = max(x_amax**alpha / max(w_amax, 1e-5)**(1 - alpha), 1e-5)`, computed in float64 and rounded
        once; 1 where `x_amax` is 0. That is arXiv 2211.10438, equation 4, with the bounds of Neural Compressor.

    >>> smoothing_scale(torch.tensor([16.0, 1.0, 0.0]), torch.tensor([1.0, 0.25, 2.0]), 0.5)
    tensor([4., 2., 1.])
    """
    x, w = x_amax.to(torch.float64), w_amax.to(torch.float64).clamp(min=_LEAST)
    scale = (x**alpha / w ** (1 - alpha)).clamp(min=_LEAST)
    return torch.where(x == 0, 1.0, scale).to(torch.float32)


def choose_alpha(alphas: Sequence[float], errors: Sequence[float], preferred: float) -> float:
    """The alpha of least error; among equals the nearest to `preferred`, then the first."""
    least = min(errors)
    best = [alpha for alpha, error in zip(alphas, errors, strict=True) if error == least]
    return min(best, key=lambda alpha: abs(alpha - preferred))


def share_alpha(alphas: Sequence[float], how: SharedAlpha) -> float:
    """The one alpha of layers that chose `alphas`."""
    match how:
        case SharedAlpha.MAX:
            return max(alphas)
        case SharedAlpha.MIN:
            return min(alphas)
        case SharedAlpha.MEAN:
            return sum(alphas) / len(alphas)
