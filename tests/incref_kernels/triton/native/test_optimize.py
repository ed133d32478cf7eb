"""Code that compiles soon computes the bits that the fastest does."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref_kernels.triton.native.native import native


@triton.jit
def arithmetic_kernel(x, y, out, n, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    a, b = tl.load(x + at), tl.load(y + at)
    tl.store(out + at, a * b + a)
    tl.store(out + n + at, a / b - b)
    tl.store(out + 2 * n + at, (a * 3 + b * 5).to(tl.float16).to(out.dtype.element_ty))
    tl.store(out + 3 * n + at, tl.sum(a, 0) + tl.cumsum(b, 0))
    wide = a.to(tl.float32)
    tl.store(out + 4 * n + at, (tl.sqrt(tl.abs(wide)) + tl.exp(-tl.abs(wide))).to(out.dtype.element_ty))
    tl.store(out + 5 * n + at, tl.minimum(a, b) * tl.floor(wide).to(tl.int32))


@triton.jit
def dot_kernel(x, y, out, n, K: tl.constexpr):
    row, column = tl.arange(0, K)[:, None], tl.arange(0, K)[None, :]
    product = tl.dot(tl.load(x + row * K + column), tl.load(y + row * K + column), input_precision="ieee")
    tl.store(out + n * row + column, product.to(out.dtype.element_ty))


def numbers(dtype: torch.dtype, count: int, seed: int) -> Tensor:
    """Numbers of every exponent up to where sums overflow, subnormals and zeros among them."""
    info, generator = torch.finfo(dtype), torch.Generator().manual_seed(seed)
    least, most = torch.tensor([info.smallest_normal, info.max], dtype=torch.float64).log2().tolist()
    exponents = torch.randint(int(least) - 4, int(most) - 8, (count,), generator=generator)
    values = torch.randn(count, generator=generator, dtype=torch.float64) * exponents.double().exp2()
    return values.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_arithmetic(dtype: torch.dtype) -> None:
    n = 8192
    x, y = numbers(dtype, n, 0), numbers(dtype, n, 1)
    soon, fast = (torch.zeros(6 * n, dtype=dtype) for _ in range(2))
    native(arithmetic_kernel, optimize=False)[n // 1024,](x, y, soon, n, N=1024)
    native(arithmetic_kernel)[n // 1024,](x, y, fast, n, N=1024)
    assert fast.isfinite().float().mean() > 0.5
    assert_same_bits(soon, fast)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_products(dtype: torch.dtype) -> None:
    k, generator = 64, torch.Generator().manual_seed(0)
    x, y = (torch.randn(k, k, generator=generator, dtype=torch.float64).mul(20).to(dtype) for _ in range(2))
    wide = {torch.int8: torch.int32, torch.float64: torch.float64}.get(dtype, torch.float32)
    soon, fast = (torch.zeros(k, k, dtype=wide) for _ in range(2))
    native(dot_kernel, optimize=False)[1,](x, y, soon, k, K=k)
    native(dot_kernel)[1,](x, y, fast, k, K=k)
    assert fast.any()
    assert_same_bits(soon, fast)
