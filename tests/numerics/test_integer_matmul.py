"""Products of 8-bit integers are exact for any K."""

import pytest
import torch

from incref.numerics.integer_matmul import integer_matmul


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=str)
def test_extreme_codes_over_a_long_sum(dtype: torch.dtype) -> None:
    info = torch.iinfo(dtype)
    length = 100_003
    a = torch.stack([torch.full((length,), code, dtype=dtype) for code in (info.min, info.max)])
    b = torch.stack([torch.full((length,), code, dtype=torch.int8) for code in (-128, 127, -1)])
    want = a[:, :1].long() * b[:, :1].long().T * length
    assert torch.equal(integer_matmul(a, b), want)


def test_random_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (17, 3001), generator=generator).to(torch.uint8)
    b = torch.randint(-128, 128, (5, 3001), generator=generator).to(torch.int8)
    assert torch.equal(integer_matmul(a, b), a.long() @ b.long().T)


def test_no_products() -> None:
    empty = torch.zeros(2, 0, dtype=torch.int8)
    assert torch.equal(integer_matmul(empty, empty), torch.zeros(2, 2, dtype=torch.int64))
