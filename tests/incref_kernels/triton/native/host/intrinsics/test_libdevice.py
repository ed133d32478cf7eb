"""Questions of the device library about one number, against Python's answers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Run = Callable[..., Tensor]

VALUES = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4e38]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("isnan", math.isnan),
        ("isinf", math.isinf),
        ("isfinite", math.isfinite),
        ("signbit", lambda x: math.copysign(1, x) < 0),
    ],
)
def test_questions_about_a_float(run_lanes: Run, name: str, answer: Callable[[float], bool]) -> None:
    x = torch.tensor(VALUES + [1.0] * (64 - len(VALUES)))
    body = f"""
  %a = bitcast i32 %x to float
  %y = call i32 @__ocml_{name}_f32(float %a)"""
    assert run_lanes(body, x.view(torch.int32)).tolist() == [int(answer(value)) for value in x.tolist()]


@pytest.mark.parametrize(
    ("name", "answer"), [("popcount", int.bit_count), ("clz", lambda word: 32 - word.bit_length())]
)
def test_bits_of_a_word_are_counted(run_lanes: Run, name: str, answer: Callable[[int], int]) -> None:
    words = [0, 1, 0xFFFFFFFF, 0x80000000, 0x00F0, *range(59)]
    x = torch.tensor(words).to(torch.int32)
    found = run_lanes(f"%y = call i32 @__ockl_{name}_u32(i32 %x)", x)
    assert found.tolist() == [answer(word) for word in words]
