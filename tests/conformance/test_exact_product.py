"""The exact sum that a failing case is explained by."""

from fractions import Fraction

import pytest
import torch

from incref.conformance.case import Arguments, Exact
from incref.conformance.exact_product import exact_product
from incref.conformance.implementation import Candidate
from incref.conformance.run import plan_cases
from incref.ops.table import OPS


def test_of_two_codes() -> None:
    codes = torch.tensor([[0x38, 0x01]], dtype=torch.uint8)
    arguments: Arguments = {"x": codes, "w": codes, "x_fmt": "float8_e4m3fn", "w_fmt": "float8_e4m3fn"}
    assert exact_product("fp8_matmul", arguments, (0, 0)) == 1 + Fraction(1, 1 << 18)
    nan: Arguments = {**arguments, "x": codes | 0x7F}
    assert exact_product("fp8_matmul", nan, (0, 0)) is None
    assert exact_product("decode", arguments, (0, 0)) is None


def test_zero_points_are_taken_out() -> None:
    x, w = torch.tensor([[3, 5]], dtype=torch.uint8), torch.tensor([[2, -1]], dtype=torch.int8)
    zeros = {"x_zero_point": torch.tensor(1, dtype=torch.int32), "w_zero_point": torch.tensor([[1]], dtype=torch.int32)}
    assert exact_product("int8_matmul", {"x": x, "w": w, **zeros}, (0, 0)) == 2 * 1 + 4 * -2


@pytest.mark.parametrize("op", ["fp8_matmul", "mx_matmul", "weight_only_matmul"])
def test_probes_without_scales_of_rows_give_it(op: str) -> None:
    """What a probe is for: no rounding at all, so the reference's float32 is the exact sum."""
    looked_at = 0
    for case in plan_cases(Candidate(op=op, fn=OPS[op].reference), level=0):
        scaled = any(case.arguments.get(name) is not None for name in ("x_scale", "w_scale", "bias"))
        if not isinstance(case.expected, Exact) or (op == "fp8_matmul" and scaled) or "bias" in case.arguments:
            continue
        want = OPS[op].reference(**case.arguments)
        assert isinstance(want, torch.Tensor)
        for place in ((0, 0), (want.shape[0] - 1, want.shape[1] - 1)):
            if want.dtype is torch.float32:
                assert exact_product(op, case.arguments, place) == Fraction(want[place].item()), case.key
                looked_at += 1
    assert looked_at >= 2
