import pytest
import torch
from torch import Tensor

from incref.algorithms.inverse_factor import factor_inverse_, permute_, restore_


def positive(k: int) -> Tensor:
    x = torch.randn(3 * k, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    return x.T @ x / (3 * k)


@pytest.mark.parametrize("k", [1, 2, 100, 128, 129, 300, 511])
def test_is_the_cholesky_factor_of_the_inverse(k: int) -> None:
    h = positive(k)
    got = h.clone()
    assert factor_inverse_(got)
    assert torch.equal(got, got.triu())
    assert bool((got.diagonal() > 0).all())
    want = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    # Both lose what the condition of the matrix says.
    bound = 8 * k * torch.finfo(torch.float64).eps * float(torch.linalg.cond(h))
    assert float((got - want).abs().max()) <= bound * float(want.abs().max())


@pytest.mark.parametrize("k", [5, 300])
def test_what_has_no_factor_can_be_restored(k: int) -> None:
    h = positive(k)
    # The first block that is factorized is fine, the last is not.
    h[0, 0] = -1.0
    spoilt = h.clone()
    assert not factor_inverse_(spoilt)
    restore_(spoilt, h.diagonal())
    assert torch.equal(spoilt, h)


def test_permute() -> None:
    h = positive(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    got = h.clone()
    permute_(got, order)
    assert torch.equal(got, h[order][:, order])
