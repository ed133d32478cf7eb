import pytest
import torch
from torch import Tensor

from incref.algorithms.cholesky import factor_, permute_, restore_


def positive(k: int) -> Tensor:
    x = torch.randn(3 * k, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    h = x.T @ x / (3 * k)
    return h.tril() + h.tril(-1).T


@pytest.mark.parametrize("k", [1, 2, 100, 128, 129, 300, 511])
def test_is_an_upper_triangular_factor(k: int) -> None:
    h = positive(k)
    got = h.clone()
    assert factor_(got)
    assert torch.equal(got, got.triu())
    assert bool((got.diagonal() > 0).all())
    # The backward error of a factorization, k + 1 roundings of sums that are no larger (Higham, theorem 10.3), and of
    # the product here.
    bound = (k + 1) * torch.finfo(torch.float64).eps * (got.abs() @ got.abs().T)
    assert bool(((got @ got.T - h).abs() <= 2 * bound).all())


@pytest.mark.parametrize("k", [5, 300])
def test_what_has_no_factor_can_be_restored(k: int) -> None:
    h = positive(k)
    # The first block that is factorized is fine, the last is not.
    h[0, 0] = -1.0
    spoilt = h.clone()
    assert not factor_(spoilt)
    restore_(spoilt, h.diagonal())
    assert torch.equal(spoilt, h)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [(1, 2), (5, 290), (140, 150), (0, 299)])
def test_there_is_no_factor_of_what_is_not_finite(place: tuple[int, int], bad: float) -> None:
    h = positive(300)
    h[place] = h[place[::-1]] = bad
    assert not factor_(h)


def test_permute() -> None:
    h = positive(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    got = h.clone()
    permute_(got, order)
    assert torch.equal(got, h[order][:, order])
