from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Run = Callable[..., Tensor]

LEAST = -(1 << 31)


def second(name: str = "%b") -> str:
    """Load a second number from beyond the first 64."""
    return f"""
  %place = add i32 %tid, 64
  %at = getelementptr i32, ptr addrspace(1) %in, i32 %place
  {name} = load i32, ptr addrspace(1) %at"""


@pytest.mark.parametrize(
    ("opcode", "by_zero", "least_by_minus_one"),
    [("sdiv", -1, LEAST), ("srem", 7, 0), ("udiv", -1, 0), ("urem", 7, LEAST)],
)
def test_divisions_that_a_processor_traps_at(
    run_lanes: Run, opcode: str, by_zero: int, least_by_minus_one: int
) -> None:
    dividends, divisors = torch.tensor([7, LEAST, -9, 9] * 16), torch.tensor([0, -1, 4, 4] * 16)
    got = run_lanes(f"{second()}\n  %y = {opcode} i32 %x, %b", torch.cat([dividends, divisors])).tolist()
    negative = {"sdiv": -2, "srem": -1, "udiv": (-9 % (1 << 32)) // 4, "urem": (-9 % (1 << 32)) % 4}[opcode]
    assert got[:4] == [by_zero, least_by_minus_one, negative, 2 if opcode.endswith("div") else 1]


def test_a_vector_of_divisions(run_lanes: Run) -> None:
    body = f"""{second()}
  %a.0 = insertelement <2 x i32> poison, i32 %x, i32 0
  %a.1 = insertelement <2 x i32> %a.0, i32 100, i32 1
  %b.0 = insertelement <2 x i32> poison, i32 %b, i32 0
  %b.1 = insertelement <2 x i32> %b.0, i32 %b, i32 1
  %q = sdiv <2 x i32> %a.1, %b.1
  %q.0 = extractelement <2 x i32> %q, i32 0
  %q.1 = extractelement <2 x i32> %q, i32 1
  %y = add i32 %q.0, %q.1"""
    got = run_lanes(body, torch.cat([torch.tensor([50, 9] * 32), torch.tensor([5, 0] * 32)]))
    assert got[:2].tolist() == [30, -2]


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ("%y = fptosi float %f to i32", [(1 << 31) - 1, LEAST, 0, -3]),
        ("%y = fptoui float %f to i32", [-1, 0, 0, 0]),
        ("%n = fptosi float %f to i8\n  %y = sext i8 %n to i32", [-1, 0, 0, -3]),
    ],
)
def test_floats_beyond_the_range(run_lanes: Run, body: str, want: list[int]) -> None:
    values = torch.tensor([3e9, -1e30, float("nan"), -3.9] * 16).view(torch.int32)
    if "fptoui" in body:
        values = torch.tensor([5e9, -1e30, float("nan"), -3.9] * 16).view(torch.int32)
    got = run_lanes(f"%f = bitcast i32 %x to float\n  {body}", values)
    assert got[:4].tolist() == want
