import threading

import pytest
import torch
from torch import Tensor

from incref.calibration.hessian import MOST_RUNS, Hessian


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


@pytest.mark.parametrize("k", [128, 200, 1100])
def test_all_blocks_of_a_large_one_are_summed(k: int) -> None:
    # Small integers: every sum is exact.
    x = torch.randint(-4, 5, (10, k), generator=torch.Generator().manual_seed(k)).to(torch.float32)
    hessian = Hessian(k, x.device)
    hessian.add(x)
    hessian.add(x[:3])
    assert torch.equal(hessian.total, (x.T @ x + x[:3].T @ x[:3]).to(torch.float64))


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


def test_the_order_of_calls_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    calls = [torch.randn(5, 6, generator=generator) * 10.0**i for i in (0, 3, -4, 1, -9)]

    def summed(order: list[int]) -> Hessian:
        hessian = Hessian(6, calls[0].device)
        for index in order:
            hessian.add(calls[index])
        return hessian

    want = summed([0, 1, 2, 3, 4])
    assert len(want.sums) > 2
    first, second = summed([4, 1]), summed([3, 0, 2])
    first.merge(second)
    for got in (summed([3, 4, 0, 2, 1]), first):
        assert torch.equal(got.total, want.total)
        assert (got.tokens, got.runs) == (25, 5)


def test_a_sum_of_the_most_runs_stays_exact() -> None:
    x = torch.full((1, 1), 1 - 2.0**-24)
    hessian = Hessian(1, x.device)
    hessian.add(x)
    want = float(x.square())
    for _ in range(16):
        hessian.merge(hessian)
    assert hessian.runs == MOST_RUNS
    assert hessian.total.item() == MOST_RUNS * want
    with pytest.raises(ValueError, match="at most 65536 runs"):
        hessian.add(x)


def test_groups_have_matrices_of_their_own() -> None:
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    both = Hessian(3, x.device, groups=2)
    both.add(x)
    for group in range(2):
        one = Hessian(3, x.device)
        one.add(x[:, group])
        assert torch.allclose(both.total[group], one.total, rtol=0, atol=2.0**-20 * float(one.total.max()))


def test_what_is_not_finite_makes_all_of_it_nan() -> None:
    hessian = Hessian(2, torch.device("cpu"))
    hessian.add(torch.ones(1, 2))
    hessian.add(torch.tensor([[torch.inf, 1.0]]))
    assert bool(hessian.total.isnan().all())


@torch.no_grad()
def test_several_threads_add_at_the_same_time() -> None:
    calls = [torch.randn(50, 300, generator=torch.Generator().manual_seed(n)) * 100.0**n for n in range(8)]
    want, got = (Hessian(300, torch.device("cpu")) for _ in range(2))

    def add(x: Tensor) -> None:
        # The same bits of products, whatever the threads of PyTorch were.
        torch.get_num_threads()
        torch.set_num_threads(1)
        for rows in x.split(10):
            got.add(rows)

    threads = torch.get_num_threads()
    workers = [threading.Thread(target=add, args=(x,)) for x in calls]
    torch.set_num_threads(1)
    try:
        for x in calls:
            for rows in x.split(10):
                want.add(rows)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        torch.set_num_threads(threads)
    assert (got.tokens, got.runs) == (400, 40)
    assert torch.equal(got.total, want.total)
