"""What Triton makes of shared memory has no races: any two lanes that touch the same byte meet in between, so it does
not matter that lanes run one after the other here.
"""

import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native.native import native


@triton.jit
def mixed_kernel(x, y, z, S: tl.constexpr):
    at = tl.arange(0, S)[:, None] * S + tl.arange(0, S)[None, :]
    v = tl.load(x + at)
    product = tl.dot(v, tl.trans(v), out_dtype=tl.int32)
    tl.store(y + at, tl.cumsum(product, 0))
    tl.store(z + tl.arange(0, S), tl.sum(product, 1) + tl.max(product, 0))


@pytest.mark.parametrize("num_warps", [1, 4])
def test_a_kernel_that_moves_data_between_all_lanes_has_no_race(num_warps: int) -> None:
    x = torch.randint(-8, 8, (32, 32), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    y, z = torch.zeros(32, 32, dtype=torch.int32), torch.zeros(32, dtype=torch.int32)
    native(mixed_kernel, shared=True)[1](x, y, z, S=32, num_warps=num_warps)
    product = x.int() @ x.int().T
    assert torch.equal(y, product.cumsum(0).int())
    assert torch.equal(z, (product.sum(1) + product.amax(0)).int())
