import torch

from incref.calibration.hessian import Hessian


def test_sums_over_all_calls() -> None:
    x = torch.randn(3, 700, 12, generator=torch.Generator().manual_seed(0))
    one, many = Hessian(12, x.device), Hessian(12, x.device)
    one.add(x)
    for part in x:
        many.add(part)
    rows = x.reshape(-1, 12).to(torch.float64)
    want = rows.T @ rows
    # Sums of at most 2048 products in float32 (arXiv 1903.02855, gamma_n with unit roundoff 2**-24).
    bound = 2048 * 2.0**-24 * (rows.abs().T @ rows.abs())
    for got in (one, many):
        assert got.tokens == 2100
        assert bool(((got.total - want).abs() <= bound).all())


def test_narrow_inputs_are_widened_first() -> None:
    x = torch.full((5000, 1), 3.0, dtype=torch.bfloat16)
    hessian = Hessian(1, x.device)
    hessian.add(x)
    assert hessian.total.item() == 45000


def test_merge() -> None:
    x = torch.ones(4, 2)
    first, second = Hessian(2, x.device), Hessian(2, x.device)
    first.add(x)
    second.add(2 * x)
    first.merge(second)
    assert first.total.tolist() == [[20.0, 20.0], [20.0, 20.0]]
    assert first.tokens == 8
