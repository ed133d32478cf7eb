"""Sums and softmax of 8-bit floats."""

import pytest
import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.hpu.simulator.options import Softmax, Sum
from incref_kernels.hpu.simulator.simulate import simulate

E4M3 = torch.float8_e4m3fn


def test_sums_have_the_dtype_of_their_terms_unless_told() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0], [96.0, 96.0, 96.0]]).to(E4M3)
    with simulate("gaudi2"):
        assert torch.ops.hpu.sum_fp8(x, [1]).float().tolist() == [7.0, 240.0]
        assert torch.ops.hpu.sum_fp8(x, [1], True, torch.bfloat16).tolist() == [[7.0], [288.0]]
        assert torch.ops.hpu.sum_fp8(x, None, False, torch.float32).item() == 295.0


def test_a_sum_is_rounded_once_or_by_bfloat16() -> None:
    # Above the middle of 16 and 18, in a bit that bfloat16 hasn't.
    x = torch.tensor([16.0, 1.0, 2.0**-9]).to(E4M3)
    with simulate("gaudi3"):
        assert torch.ops.hpu.sum_fp8(x).item() == 18.0
    with simulate("gaudi3", sum=Sum.BY_BFLOAT16):
        assert torch.ops.hpu.sum_fp8(x).item() == 16.0


def test_a_sum_in_bfloat16_is_not_rounded_to_float32_before() -> None:
    # The last term decides which way the middle of two values of bfloat16 goes, and float32 hasn't its bit.
    x = torch.tensor([2.0**15, 2.0**7, 2.0**-16]).to(torch.float8_e5m2)
    with simulate("gaudi3"):
        assert torch.ops.hpu.sum_fp8(x, None, False, torch.bfloat16).item() == 2.0**15 + 2.0**8


def in_bfloat16(x: Tensor, heads: float, scale: float, add: Tensor, out: float) -> Tensor:
    """What the vendor's test computes, step by step."""
    scaled = (x.bfloat16() * torch.tensor(heads)) * torch.tensor(scale) + add.bfloat16()
    return (torch.softmax(scaled.float(), -1).bfloat16() * torch.tensor(out)).float()


def in_float32(x: Tensor, heads: float, scale: float, add: Tensor, out: float) -> Tensor:
    return torch.softmax((x * torch.tensor(heads)) * torch.tensor(scale) + add, -1) * torch.tensor(out)


@pytest.mark.parametrize(("choice", "want"), [(Softmax.BFLOAT16, in_bfloat16), (Softmax.FLOAT32, in_float32)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, E4M3], ids=str)
def test_a_softmax_is_rounded_as_its_option_says(dtype: torch.dtype, choice: Softmax, want: object) -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    add = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    assert callable(want)
    right = want(x.float(), 0.1, 1.3, add, 23.0).to(E4M3)
    with simulate("gaudi3", softmax=choice):
        found = torch.ops.hpu.softmax_fp8(x, -1, 1.3, 23.0, 0.1, add)
        tensors = torch.ops.hpu.softmax_fp8(x, 1, *map(torch.tensor, ([1.3], 23.0, 0.1)), add)
    assert found.dtype is E4M3
    assert torch.equal(found.view(torch.uint8), right.view(torch.uint8))
    assert torch.equal(tensors.view(torch.uint8), right.view(torch.uint8))


def test_the_ways_to_round_a_softmax_differ() -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    add = torch.zeros(5, 64)
    one, other = (step(x, 0.1, 1.3, add, 23.0).to(E4M3).float() for step in (in_bfloat16, in_float32))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("choice", Softmax)
def test_a_softmax_without_scales_is_bfloat16(choice: Softmax) -> None:
    x = torch.tensor([[0.5, 1.0, -2.0]])
    with simulate("gaudi2", softmax=choice):
        assert torch.equal(torch.ops.hpu.softmax_fp8(x, -1), torch.softmax(x, -1).bfloat16())
        halved = torch.ops.hpu.softmax_fp8(x, -1, None, None, torch.tensor(0.5))
        assert torch.equal(halved, torch.softmax(x / 2, -1).bfloat16())


def test_what_no_test_of_the_vendor_has_is_refused() -> None:
    x, one = torch.ones(1, 3), torch.tensor(1.0)
    with simulate("gaudi2"):
        with pytest.raises(UnsupportedError, match="over the last dimension, got dim=0"):
            torch.ops.hpu.softmax_fp8(x, 0)
        for scales in ((one, None), (None, one)):
            with pytest.raises(UnsupportedError, match="give both, or none"):
                torch.ops.hpu.softmax_fp8(x, -1, *scales)
        with pytest.raises(UnsupportedError, match="only where it has scales"):
            torch.ops.hpu.softmax_fp8(x, -1, None, None, None, x)


def test_the_scale_of_the_input_says_the_dtype() -> None:
    x, one = torch.empty(2, 3, device="meta"), torch.empty((), device="meta")
    with simulate("gaudi2"):
        assert torch.ops.hpu.softmax_fp8(x, -1).dtype is torch.bfloat16
        assert torch.ops.hpu.softmax_fp8(x, -1, one, one).dtype is E4M3
