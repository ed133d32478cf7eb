import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Run = Callable[..., Tensor]

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4e38]
PAIRS = [(a, b) for a in SPECIAL for b in SPECIAL][:64] + [(math.nan, b) for b in SPECIAL] + [(1e-45, 0.0)] * 53


def bits(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(torch.int32)


def expected(a: float, b: float, *, greatest: bool, propagates: bool) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan if propagates or (math.isnan(a) and math.isnan(b)) else b if math.isnan(a) else a
    if a == b == 0:
        negative = [math.copysign(1, value) < 0 for value in (a, b)]
        return -0.0 if (all(negative) if greatest else any(negative)) else 0.0
    return max(a, b) if greatest else min(a, b)


@pytest.mark.parametrize(
    ("name", "greatest", "propagates"),
    [
        ("llvm.maxnum", True, False),
        ("llvm.minnum", False, False),
        ("llvm.maximumnum", True, False),
        ("llvm.minimumnum", False, False),
        ("llvm.maximum", True, True),
        ("llvm.minimum", False, True),
    ],
)
def test_extremes_decide_nan_and_zeros(run_lanes: Run, name: str, *, greatest: bool, propagates: bool) -> None:
    left, right = (list(side) for side in zip(*PAIRS, strict=True))
    body = f"""
  %a = bitcast i32 %x to float
  %second = add i32 %tid, 128
  %at = getelementptr i32, ptr addrspace(1) %in, i32 %second
  %b.bits = load i32, ptr addrspace(1) %at
  %b = bitcast i32 %b.bits to float
  %m = call float @{name}.f32(float %a, float %b)
  %y = bitcast float %m to i32"""
    got = run_lanes(body, torch.cat([bits(left), bits(right)]), waves=2).view(torch.float32).tolist()
    want = [expected(a, b, greatest=greatest, propagates=propagates) for a, b in PAIRS]
    assert [repr(value) for value in got] == [repr(float(torch.tensor(value))) for value in want]


def test_perm_picks_bytes(run_lanes: Run) -> None:
    # Bytes of {first, second} by selector: second 0-3, first 4-7, signs 8-11, 0x00, 0xFF.
    first, second = 0x87654321, 0x0FEDCBA9
    every = (first << 32 | second).to_bytes(8, "little")
    by_selector = [*every, *(0xFF if every[place] & 0x80 else 0 for place in (1, 3, 5, 7)), 0, 0xFF, 0xFF, 0xFF]
    selectors = [sum(((7 * lane + 3 * place) % 16) << 8 * place for place in range(4)) for lane in range(64)]
    body = f"%y = call i32 @llvm.amdgcn.perm(i32 {first}, i32 {second}, i32 %x)"
    got = run_lanes(body, torch.tensor(selectors, dtype=torch.int64).to(torch.int32))
    want = [sum(by_selector[(7 * lane + 3 * place) % 16] << 8 * place for place in range(4)) for lane in range(64)]
    assert [word & 0xFFFFFFFF for word in got.tolist()] == want


def test_fmuladd_rounds_twice(run_lanes: Run) -> None:
    # (1 + 2**-12)**2 - (1 + 2**-11) is 2**-24 exactly, and 0 if the product is rounded first.
    body = """
  %a = bitcast i32 %x to float
  %c = fsub float 0xBFF0020000000000, 0.0
  %m = call float @llvm.fmuladd.f32(float %a, float %a, float %c)
  %y = bitcast float %m to i32"""
    assert set(run_lanes(body, bits([1 + 2**-12] * 64)).tolist()) == {0}


def test_subnormals_are_kept(run_lanes: Run) -> None:
    body = """
  %a = bitcast i32 %x to float
  %h = fmul float %a, 5.000000e-01
  %y = bitcast float %h to i32"""
    assert run_lanes(body, torch.arange(64, dtype=torch.int32) * 2).tolist() == list(range(64))


@pytest.mark.parametrize("count", [1, 2])
def test_canonicalize_makes_nan_quiet_and_keeps_the_rest(run_lanes: Run, count: int) -> None:
    patterns = [0, -(2**31), 1, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF, -0x7FFFFF, 0x3F800000, 0x007FFFFF] * 7
    x = torch.tensor(patterns[:64], dtype=torch.int32)
    if count == 1:
        body = """
  %a = bitcast i32 %x to float
  %c = call float @llvm.canonicalize.f32(float %a)
  %y = bitcast float %c to i32"""
    else:
        body = """
  %a = bitcast i32 %x to float
  %v = insertelement <2 x float> zeroinitializer, float %a, i32 1
  %c = call <2 x float> @llvm.canonicalize.v2f32(<2 x float> %v)
  %e = extractelement <2 x float> %c, i32 1
  %y = bitcast float %e to i32"""
    is_nan = (x & 0x7FFFFFFF) > 0x7F800000
    assert torch.equal(run_lanes(body, x), torch.where(is_nan, x | 0x400000, x))


def test_the_median_of_three(run_lanes: Run) -> None:
    values = [1.0, -2.0, 0.5, 7.0, math.inf, -math.inf, math.nan, 3.0]
    triples = [(a, b, c) for a in values for b in values for c in (0.25, math.nan, -math.inf, 5.0)][:192]
    for first in range(0, 192, 64):
        chosen = triples[first : first + 64]
        body = """
  %a = bitcast i32 %x to float
  %i2 = add i32 %tid, 64
  %p2 = getelementptr i32, ptr addrspace(1) %in, i32 %i2
  %b.bits = load i32, ptr addrspace(1) %p2
  %b = bitcast i32 %b.bits to float
  %i3 = add i32 %tid, 128
  %p3 = getelementptr i32, ptr addrspace(1) %in, i32 %i3
  %c.bits = load i32, ptr addrspace(1) %p3
  %c = bitcast i32 %c.bits to float
  %m = call float @llvm.amdgcn.fmed3.f32(float %a, float %b, float %c)
  %y = bitcast float %m to i32"""
        got = run_lanes(body, torch.cat([bits(list(side)) for side in zip(*chosen, strict=True)])).view(torch.float32)
        for found, triple in zip(got.tolist(), chosen, strict=True):
            numbers = sorted(value for value in triple if not math.isnan(value))
            want = math.nan if not numbers else numbers[0] if len(numbers) < 3 else numbers[1]
            assert repr(found) == repr(want), triple
