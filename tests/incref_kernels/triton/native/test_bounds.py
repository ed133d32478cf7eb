import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.native import native


@triton.jit
def copy_kernel(source, target, n, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(target + at, tl.load(source + at, mask=at < n, other=0), mask=at < n)


def test_what_lies_inside_passes() -> None:
    x, y = torch.arange(1000).float(), torch.zeros(1000)
    native(copy_kernel, bounds=True)[4](x, y, 1000, N=256)
    assert torch.equal(x, y)


def test_a_load_beyond_the_end_names_kernel_program_argument_and_line() -> None:
    x, y = torch.arange(2000).float()[:999], torch.zeros(1000)
    message = r"copy_kernel, program \(3, 0, 0\), lane \d+: load of \d+ bytes out of bounds: element 99\d of source, "
    with pytest.raises(KernelError, match=message + r"which holds 999, at .*test_bounds.py:\d+"):
        native(copy_kernel, bounds=True, threads=1)[4](x, y, 1000, N=256)


def test_a_store_before_the_start_is_found_and_not_done() -> None:
    memory = torch.zeros(300)
    with pytest.raises(KernelError, match=r"store of \d+ bytes out of bounds: element -\d+ of target, which holds 200"):
        native(negative_kernel, bounds=True)[1](memory[100:], N=64)
    assert not memory[:100].any()


@triton.jit
def negative_kernel(target, N: tl.constexpr):
    tl.store(target + tl.arange(0, N) - 32, 1.0)


@triton.jit
def atomic_kernel(target, N: tl.constexpr):
    tl.atomic_add(target + tl.arange(0, N), 1.0)


def test_an_atomic_is_held_against_the_tensor() -> None:
    with pytest.raises(KernelError, match=r"element 50 of target, which holds 50"):
        native(atomic_kernel, bounds=True)[1](torch.zeros(50), N=64)
