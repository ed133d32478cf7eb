"""4-bit weights: low nibble first along the output, `(code - zero) * scale`."""

import pytest
import torch

from incref.conformance.oracle_answers import ORACLE_ANSWERS
from incref_kernels.hpu.simulator.options import Int4ToFloat8
from incref_kernels.hpu.simulator.simulate import simulate

WORD = torch.tensor([[0x76543210]], dtype=torch.int32)
HIGH = torch.tensor([[0xFEDCBA98 - (1 << 32)]], dtype=torch.int32)


def test_the_lowest_nibble_is_the_first_output() -> None:
    with simulate("gaudi2"):
        for words, first in ((WORD, 0), (HIGH, 8)):
            found = torch.ops.hpu.convert_from_uint4(words, torch.ones(1, 8), None, torch.float32)
            assert found.tolist() == [[float(first + i) for i in range(8)]]
        found = torch.ops.hpu.convert_from_int4(HIGH, torch.ones(1, 8), None, torch.float32)
        assert found.tolist() == [[float(i - 8) for i in range(8)]]


def test_differences_are_signed_and_zero_points_as_they_are() -> None:
    zeros = torch.full((1, 1), 0x77777777, dtype=torch.int32)
    with simulate("gaudi2"):
        for zero in (zeros, torch.full((1, 8), 7.0)):
            found = torch.ops.hpu.convert_from_uint4(WORD, torch.full((1, 8), 0.5), zero, torch.bfloat16)
            assert found.tolist() == [[(i - 7) / 2 for i in range(8)]]


def test_rows_belong_to_groups() -> None:
    words, scale = WORD.expand(4, 1).contiguous(), torch.tensor([[1.0] * 8, [2.0] * 8])
    with simulate("gaudi2"):
        found = torch.ops.hpu.convert_from_uint4(words, scale, None, torch.float32)
        assert found[:, 1].tolist() == [1.0, 1.0, 2.0, 2.0]
        with pytest.raises(ValueError, match="3 groups don't divide the 4 rows"):
            torch.ops.hpu.convert_from_uint4(words, torch.ones(3, 8), None, torch.float32)
        with pytest.raises(TypeError, match=r"input must be torch.int32 words, got torch.uint8"):
            torch.ops.hpu.convert_from_uint4(words.to(torch.uint8), scale, None, torch.float32)
    with simulate("gaudi2", has_group_index=True):
        index = torch.tensor([1, 0, 1, 0], dtype=torch.int32)
        found = torch.ops.hpu.convert_from_uint4(words, scale, None, torch.float32, index)
        assert found[:, 1].tolist() == [2.0, 1.0, 2.0, 1.0]


def test_8_bit_results_are_rounded_once_or_by_the_scale() -> None:
    # 9 * 1.0546875 is 9.4921875: above the tie of 9 and 10 by less than bfloat16 keeps.
    scale = torch.full((1, 8), 1.0546875, dtype=torch.bfloat16)
    found = {}
    for how in Int4ToFloat8:
        with simulate("gaudi2", int4_to_float8=how):
            values = torch.ops.hpu.convert_from_uint4(HIGH, scale, None, torch.float8_e4m3fn)
            found[how] = values.view(torch.uint8)[0]
    exact = torch.arange(8.0, 16.0) * 1.0546875
    assert torch.equal(found[Int4ToFloat8.ONCE], ORACLE_ANSWERS["encode"](exact, "float8_e4m3"))
    assert torch.equal(found[Int4ToFloat8.BY_SCALE], ORACLE_ANSWERS["encode"](exact.bfloat16(), "float8_e4m3"))
    assert not torch.equal(*found.values())
