"""How outliers move from inputs to weights: SmoothQuant (arXiv 2211.10438)."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["SharedAlpha", "Smoothing"]


class SharedAlpha(Enum):
    """Which alpha layers get that share their scales, of those that each of them would have chosen."""

    MAX = "max"
    """The greatest."""
    MIN = "min"
    """The least."""
    MEAN = "mean"
    """Their mean."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How the features of an input are scaled before it is quantized, and those of the weight the other way.

    Attributes:
        alphas: how much of the difficulty moves to the weight, from 0 to 1; of several, ascending, each layer chooses
            the one that gives its output the least squared error over the calibration data.
        preferred: which alpha is taken among equally good ones: the nearest to this.
        shared_alpha: what layers do that share their scales and chose differently.
        is_shared: whether all layers that are fed the same tensor share their scales.
        folds: whether the norm in front divides, so that the model stays as fast as it was; layers share their scales
            then. If not, layers multiply their input.

    Raises:
        ValueError: for alphas that are not ascending, or outside of 0 to 1.
    """

    alphas: tuple[float, ...] = (0.5,)
    preferred: float = 0.5
    shared_alpha: SharedAlpha = SharedAlpha.MAX
    is_shared: bool = False
    folds: bool = False

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not self.alphas or list(self.alphas) != sorted(set(self.alphas)):
            raise ValueError(f"alphas must be one or more, ascending, got {self.alphas}")
        if not all(0 <= alpha <= 1 for alpha in (*self.alphas, self.preferred)):
            raise ValueError(f"alpha must be from 0 to 1, got {self.alphas} and {self.preferred}")

    def __str__(self) -> str:
        """The alphas, and where the division is."""
        alpha = f"{self.alphas[0]:g}" if len(self.alphas) == 1 else f"{self.alphas[0]:g} to {self.alphas[-1]:g}"
        return f"smoothed by {alpha}{', folded' if self.folds else ''}"
