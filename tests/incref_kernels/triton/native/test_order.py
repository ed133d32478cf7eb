import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.order import assert_order_independent


@triton.jit
def last_writer_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + tl.program_id(0) * N + at))


@triton.jit
def own_row_kernel(x, y, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.load(x + at) + tl.load(y + at))


def test_two_writers_of_an_element_are_found() -> None:
    x = torch.arange(512).float()
    with pytest.raises(KernelError, match="argument 1 depends on the order of the programs: element 0 differs"):
        assert_order_independent(last_writer_kernel, 8, x, torch.zeros(64), N=64)


def test_a_kernel_in_place_passes_and_leaves_its_result() -> None:
    x, y = torch.arange(512).float(), torch.ones(512)
    assert_order_independent(own_row_kernel, 8, x, y, N=64)
    assert torch.equal(y, x + 1)


def test_writers_of_the_same_value_pass() -> None:
    y = torch.zeros(64)
    assert_order_independent(last_writer_kernel, 8, torch.ones(512), y, N=64)
    assert y.tolist() == [1.0] * 64


def copied(x: Tensor) -> Tensor:
    """Add `x` to zeros, in any order."""
    y = torch.zeros_like(x)
    assert_order_independent(own_row_kernel, 8, x, y, N=64)
    return y


@pytest.mark.parametrize("is_leaf", [True, False])
def test_tensors_whose_gradients_are_wanted(*, is_leaf: bool) -> None:
    """What is put back doesn't count as changed: not for a view made without gradients, not for what products keep."""
    x = torch.arange(512).float().requires_grad_()
    base = x if is_leaf else x * 1
    product = base * base
    with torch.no_grad():
        view = base.view(8, 64)
    assert torch.equal(copied(view), view)
    product.sum().backward()
    assert torch.equal(x.grad, 2 * x)
