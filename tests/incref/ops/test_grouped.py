"""Products for mixtures of experts: the reference."""

import pytest
import torch

from incref.ops import fp8_matmul, weight_only_matmul
from incref.ops.grouped import grouped

X = torch.arange(12.0).view(6, 2)
W = torch.tensor([[[1, 0]], [[0, 1]], [[1, 1]]], dtype=torch.int8)
SCALE = torch.tensor([1.0, 2.0, 4.0])


def _ends(*ends: int) -> torch.Tensor:
    return torch.tensor(ends, dtype=torch.int32)


def test_rows_meet_the_weight_of_their_expert() -> None:
    got = grouped(weight_only_matmul, _ends(2, 2, 5), X, W, SCALE, "int8", bias=torch.tensor([[1.0], [2.0], [3.0]]))
    assert got.T.tolist() == [[1, 3, 39, 55, 71, 0]]


def test_scales_of_all_rows_are_shared() -> None:
    codes = torch.full((2, 1), 0x38, dtype=torch.uint8)
    fmt = {"x_fmt": "float8_e4m3fn", "w_fmt": "float8_e4m3fn"}
    got = grouped(fp8_matmul, _ends(1, 2), codes, codes.view(2, 1, 1), torch.tensor(3.0), SCALE[:2], **fmt)
    assert got.tolist() == [[3], [6]]


def test_it_refuses_ends_that_descend_or_lead_beyond() -> None:
    for ends in ((3, 2, 6), (1, 2, 7), (-1, 2, 3)):
        with pytest.raises(ValueError, match="ends must ascend, up to 6 rows"):
            grouped(weight_only_matmul, _ends(*ends), X, W, SCALE, "int8")
    with pytest.raises(ValueError, match=r"ends \[E\]"):
        grouped(weight_only_matmul, _ends(1, 6), X, W, SCALE, "int8")
    with pytest.raises(TypeError, match=r"ends must be torch\.int32"):
        grouped(weight_only_matmul, _ends(1, 2, 6).long(), X, W, SCALE, "int8")
