"""Sums and softmax of 8-bit floats."""

import pytest
import torch

from incref.errors import UnsupportedError
from incref_kernels.hpu.simulator.simulate import simulate

E4M3 = torch.float8_e4m3fn


def test_sums_have_the_dtype_of_their_terms_unless_told() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0], [96.0, 96.0, 96.0]]).to(E4M3)
    with simulate("gaudi2"):
        assert torch.ops.hpu.sum_fp8(x, [1]).float().tolist() == [7.0, 240.0]
        assert torch.ops.hpu.sum_fp8(x, [1], True, torch.bfloat16).tolist() == [[7.0], [288.0]]
        assert torch.ops.hpu.sum_fp8(x, None, False, torch.float32).item() == 295.0


def test_softmax() -> None:
    x = torch.tensor([[0.5, 1.0, -2.0]])
    plain = torch.softmax(x, -1).bfloat16()
    with simulate("gaudi2"):
        assert torch.equal(torch.ops.hpu.softmax_fp8(x, -1), plain)
        codes = torch.ops.hpu.softmax_fp8(x.to(E4M3), 1, 1.0, 16.0)
        assert codes.dtype is E4M3
        assert torch.equal(codes.float(), (plain * 16).to(E4M3).float())
        shifted = torch.ops.hpu.softmax_fp8(x, -1, None, None, torch.tensor(0.5), torch.tensor([[1.0, 0.0, 0.0]]))
        assert torch.equal(shifted, torch.softmax(x / 2 + torch.tensor([[1.0, 0.0, 0.0]]), -1).bfloat16())
        with pytest.raises(UnsupportedError, match="over the last dimension, got dim=0"):
            torch.ops.hpu.softmax_fp8(x, 0)
