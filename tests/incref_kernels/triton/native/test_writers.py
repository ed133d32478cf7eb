import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.native import native


@triton.jit
def overlapping_kernel(x, y, STEP: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    row = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(y + row * STEP + at, tl.load(x + at))
    tl.store(y + row * STEP + at, tl.load(x + at))


def test_a_program_may_store_twice() -> None:
    native(overlapping_kernel, writers=True)[2, 3](torch.zeros(64), torch.zeros(384), STEP=64, N=64)


def test_the_second_program_is_found_with_the_first_and_the_element() -> None:
    message = r"program \(1, 0, 0\): store of \d+ bytes to what program \(0, 0, 0\) stored to: element 63 of y, "
    with pytest.raises(KernelError, match=message + r"which holds 384, at .*test_writers.py:\d+"):
        native(overlapping_kernel, writers=True, threads=1)[2, 3](torch.zeros(64), torch.zeros(384), STEP=63, N=64)


@triton.jit
def counting_kernel(y):
    tl.atomic_add(y, 1)


def test_atomics_are_left_out() -> None:
    y = torch.zeros(1, dtype=torch.int32)
    native(counting_kernel, writers=True)[8](y)
    assert y.item() == 8
