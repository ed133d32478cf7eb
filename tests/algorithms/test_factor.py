import pytest
import torch

from incref.algorithms.factor import column_order, factorize
from incref.config.method import GPTQ, ColumnOrder


def hessian(k: int = 24, tokens: int = 100, seed: int = 0) -> torch.Tensor:
    x = torch.randn(tokens, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.T @ x


@pytest.mark.parametrize("order", ColumnOrder)
def test_is_a_factor_of_the_damped_hessian(order: ColumnOrder) -> None:
    h = hessian()
    factor = factorize(h, GPTQ(order=order, percdamp=0.01), 8)
    damped = h + factor.damp * torch.eye(24, dtype=torch.float64)
    product = factor.upper @ factor.upper.T
    # Backward error of a factorization of this size.
    bound = 2 * 25 * torch.finfo(torch.float64).eps * (factor.upper.abs() @ factor.upper.abs().T)
    assert bool(((product - damped[factor.order][:, factor.order]).abs() <= bound).all())
    assert torch.equal(factor.upper, factor.upper.triu())
    assert factor.damp == 0.01 * float(h.diagonal().mean())
    assert not factor.is_raised


def test_orders() -> None:
    d = torch.tensor([1.0, 5.0, 5.0, 0.0, 9.0, 2.0, 3.0])
    assert column_order(d, ColumnOrder.GIVEN, 2).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert column_order(d, ColumnOrder.DESCENDING, 2).tolist() == [4, 1, 2, 6, 5, 0, 3]
    assert column_order(d, ColumnOrder.WITHIN_GROUPS, 2).tolist() == [4, 5, 1, 0, 2, 3, 6]


def test_dead_columns_count_as_one() -> None:
    h = hessian()
    h[:, 5] = 0
    h[5] = 0
    factor = factorize(h, GPTQ(percdamp=0.0), 8)
    assert factor.is_dead.nonzero().flatten().tolist() == [5]
    assert factor.upper[5, 5] == 1
    assert factor.damp == 0


@pytest.mark.parametrize("percdamp", [0.0, 1e-30])
def test_damping_is_raised_until_there_is_a_factor(percdamp: float) -> None:
    # Five tokens for 24 columns: rank 5.
    h = hessian(tokens=5)
    factor = factorize(h, GPTQ(percdamp=percdamp), 8)
    assert factor.is_raised
    assert 0 < factor.damp < 0.01 * float(h.diagonal().mean())
    assert bool(factor.upper.isfinite().all())


def test_all_dead() -> None:
    factor = factorize(torch.zeros(4, 4), GPTQ(), 4)
    assert bool(factor.is_dead.all())
    assert bool(factor.upper.isfinite().all())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_not_finite(bad: float) -> None:
    h = hessian()
    h[1, 2] = bad
    with pytest.raises(ValueError, match="made the Hessian infinite or NaN"):
        factorize(h, GPTQ(), 8)
