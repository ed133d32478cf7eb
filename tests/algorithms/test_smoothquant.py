"""The formula of SmoothQuant, and the choice of its alpha."""

import pytest
import torch

from incref.algorithms.smoothquant import choose_alpha, share_alpha, smoothing_scale
from incref.config.smoothing import SharedAlpha


@pytest.mark.parametrize(("alpha", "want"), [(0.0, 4.0), (0.5, 16.0), (1.0, 64.0)])
def test_alpha_goes_from_the_weight_to_the_input(alpha: float, want: float) -> None:
    assert smoothing_scale(torch.tensor([64.0]), torch.tensor([0.25]), alpha).item() == want


def test_bounds() -> None:
    scale = smoothing_scale(torch.tensor([0.0, 1e-12, 4.0]), torch.tensor([5.0, 1.0, 0.0]), 0.5)
    assert scale.dtype is torch.float32
    # No input: 1. A tiny one: at least 1e-5. A weight of zero counts as 1e-5.
    assert scale.tolist() == pytest.approx([1.0, 1e-5, 2 / 1e-5**0.5])


def test_the_best_alpha_is_that_of_least_error() -> None:
    assert choose_alpha([0.1, 0.2, 0.3], [3.0, 1.0, 2.0], 0.3) == 0.2
    assert choose_alpha([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 1.0, 1.0], 0.35) == 0.3


def test_sharing() -> None:
    assert [share_alpha([0.2, 0.6, 0.4], how) for how in SharedAlpha] == [0.6, 0.2, pytest.approx(0.4)]
