"""`tl.dot` of every type: exact where sums are, and in the stated order where they aren't."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref_kernels.triton.native.native import native


@triton.jit
def dot_kernel(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, OUT: tl.constexpr):
    rows, columns = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), OUT)
    N = tl.num_programs(1) * BN
    for k in range(0, K, BK):
        at = k + tl.arange(0, BK)
        x = tl.load(a + rows[:, None] * K + at[None, :])
        y = tl.load(b + at[:, None] * N + columns[None, :])
        acc = tl.dot(x, y, acc, input_precision="ieee", out_dtype=OUT)
    tl.store(c + rows[:, None] * N + columns[None, :], acc)


def dot(a: Tensor, b: Tensor, tile: tuple[int, int, int], num_warps: int) -> Tensor:
    whole = a.dtype == torch.int8
    (m, k), n = a.shape, b.shape[1]
    c = torch.zeros(m, n, dtype=torch.int32 if whole else torch.float64 if a.dtype == torch.float64 else torch.float32)
    out = {torch.int32: tl.int32, torch.float32: tl.float32, torch.float64: tl.float64}[c.dtype]
    grid = (m // tile[0], n // tile[1])
    native(dot_kernel)[grid](a, b, c, k, BM=tile[0], BN=tile[1], BK=tile[2], OUT=out, num_warps=num_warps)
    return c


@pytest.mark.parametrize("tile", [(64, 64, 32), (16, 16, 64)])
@pytest.mark.parametrize(
    "dtype",
    [
        torch.int8,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz,
    ],
)
def test_small_integers_are_exact(dtype: torch.dtype, tile: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-4, 5, (128, 128), generator=generator) for _ in range(2))
    got = dot(a.float().to(dtype), b.float().to(dtype), tile, 4)
    assert torch.equal(got.long(), a @ b)


@pytest.mark.parametrize("num_warps", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float16])
def test_any_number_of_warps(dtype: torch.dtype, num_warps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randint(-128, 128, (64, 64), generator=generator) for _ in range(2))
    got = dot(a.float().to(dtype), b.float().to(dtype), (64, 64, 32), num_warps)
    assert torch.equal(got.long(), a @ b)


def test_integers_wrap_around() -> None:
    a = torch.full((64, 1 << 12), -128, dtype=torch.int8)
    got = dot(a, a.T.contiguous(), (64, 64, 64), 4)
    assert int(got[0, 0]) == (1 << 14) * (1 << 12)


@pytest.mark.parametrize(("dtype", "k_order"), [(torch.float16, 8), (torch.bfloat16, 8), (torch.float32, 2)])
def test_the_order_of_summation_is_ascending(dtype: torch.dtype, k_order: int) -> None:
    """One rounding to float32 for each k, k ascending: of exponents so far apart that any other order differs."""
    del k_order
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(64, 64, generator=generator).to(dtype) for _ in range(2))
    acc = np.zeros((64, 64), dtype=np.float32)
    for k in range(64):
        product = np.multiply.outer(a[:, k].double().numpy(), b[k].double().numpy()).astype(np.longdouble)
        acc = (product + acc).astype(np.float32)
    assert torch.equal(dot(a, b, (64, 64, 32), 4), torch.from_numpy(acc))


@triton.jit
def strided_kernel(a, b, c, am, ak, bk, bn, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + i[:, None] * am + k[None, :] * ak)
    y = tl.load(b + k[:, None] * bk + j[None, :] * bn)
    tl.store(c + i[:, None] * N + j[None, :], tl.dot(x, y, out_dtype=c.dtype.element_ty))


@pytest.mark.parametrize("transposed", ["neither", "left", "right", "both"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_gfx950_reads_columns_of_shared_memory(dtype: torch.dtype, transposed: str) -> None:
    """Where memory has the rows, the lanes are given columns by reads that transpose."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randint(-4, 5, (32, 128), generator=generator)
    b = torch.randint(-4, 5, (128, 64), generator=generator)
    left = a.T.contiguous().T if transposed in {"left", "both"} else a
    right = b.T.contiguous().T if transposed in {"right", "both"} else b
    x, y = left.float().to(dtype), right.float().to(dtype)
    c = torch.zeros(32, 64, dtype=torch.int32 if dtype == torch.int8 else torch.float32)
    # Where the left operand is transposed, both are read so.
    kernel = native(strided_kernel, arch="gfx950", shared=transposed == "left")
    kernel[1](x, y, c, *x.stride(), *y.stride(), M=32, N=64, K=128, num_warps=4)
    assert torch.equal(c.long(), a @ b)
