import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.native import native


@triton.jit
def copying_kernel(x, y, n, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def accumulating_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(y + at) + tl.load(x + at))


@triton.jit
def rereading_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at))
    tl.debug_barrier()
    tl.store(y + at, 2 * tl.load(y + at))


@triton.jit
def counting_kernel(y):
    tl.atomic_add(y, 1)


def test_every_element_is_written() -> None:
    native(copying_kernel, outputs=("y",))[3](torch.zeros(150), torch.empty(150), 150, N=64)
    native(copying_kernel, outputs=["y"])[3](torch.zeros(150), torch.empty(0), 0, N=64)


def test_elements_that_are_left_out_are_counted() -> None:
    with pytest.raises(
        KernelError,
        match=r"kernel copying_kernel: 22 of the 150 elements of y are never written; the first is \(128,\)",
    ):
        native(copying_kernel, outputs=("y",))[2](torch.zeros(150), torch.empty(150), 150, N=64)


def test_gaps_of_a_strided_output_need_not_be_written() -> None:
    y = torch.empty(64, 2)[:, 0]
    with pytest.raises(KernelError, match=r"32 of the 64 elements of y are never written; the first is \(32,\)"):
        native(copying_kernel, outputs=("y",))[1](torch.zeros(64), y, 64, N=64)


def test_a_load_of_nothing_is_found_with_its_element() -> None:
    message = (
        r"load of \d+ bytes before anything was stored there: element 0 of y, which holds 64, at .*unwritten.py:\d+"
    )
    with pytest.raises(KernelError, match=message):
        native(accumulating_kernel, outputs=("y",))[1](torch.zeros(64), torch.empty(64), N=64)
    native(accumulating_kernel)[1](torch.zeros(64), torch.zeros(64), N=64)


def test_what_was_stored_may_be_loaded() -> None:
    native(rereading_kernel, outputs=("y",))[1](torch.zeros(64), torch.empty(64), N=64)


def test_an_atomic_reads_too() -> None:
    with pytest.raises(KernelError, match="before anything was stored there: element 0 of y"):
        native(counting_kernel, outputs=("y",))[1](torch.empty(1, dtype=torch.int32))


def test_outputs_are_arguments() -> None:
    with pytest.raises(ValueError, match="outputs are arguments that are tensors, x, y, got 'z'"):
        native(copying_kernel, outputs=("z",))[1](torch.zeros(64), torch.empty(64), 64, N=64)
