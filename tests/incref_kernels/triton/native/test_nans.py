import math

import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.native import native


@triton.jit
def dividing_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    value = tl.load(x + at)
    tl.store(y + at, (value * 2) / value)


@triton.jit
def root_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.sqrt(tl.load(x + at)) + 1)


@triton.jit
def narrow_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    value = tl.load(x + at)
    tl.store(y + at, value - value)


def test_the_first_operation_that_gives_nan_is_found() -> None:
    x = torch.ones(64)
    native(dividing_kernel, nans=True)[1](x, torch.empty(64), N=64)
    x[37] = 0
    with pytest.raises(KernelError, match=r"lane 37: f\w+ gives NaN of operands that are none, at .*test_nans.py:16"):
        native(dividing_kernel, nans=True)[1](x, torch.empty(64), N=64)


def test_a_nan_that_came_in_is_nobodys() -> None:
    x = torch.full((64,), math.nan)
    native(dividing_kernel, nans=True)[1](x, torch.empty(64), N=64)


def test_a_function_that_gives_nan_is_found() -> None:
    x = torch.ones(64)
    native(root_kernel, nans=True)[1](x, torch.empty(64), N=64)
    x[5] = -1
    with pytest.raises(KernelError, match=r"lane 5: \S*sqrt\S* gives NaN of operands that are none, at .*:22"):
        native(root_kernel, nans=True)[1](x, torch.empty(64), N=64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_in_every_float_type(dtype: torch.dtype) -> None:
    x = torch.ones(64, dtype=dtype)
    native(narrow_kernel, nans=True)[1](x, torch.empty(64, dtype=dtype), N=64)
    x[63] = math.inf
    with pytest.raises(KernelError, match=r"lane \d+: fsub gives NaN of operands that are none, at .*:29"):
        native(narrow_kernel, nans=True)[1](x, torch.empty(64, dtype=dtype), N=64)
