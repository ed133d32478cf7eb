"""Functions that are not inlined by Triton, and memory of a lane's own."""

from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.triton.native.native import native

Run = Callable[..., Tensor]


@triton.jit(noinline=True)
def largest_or_sum(x, which, N: tl.constexpr):
    block = tl.load(x + tl.arange(0, N))
    found = tl.max(block, 0)
    if which > 3:
        found = tl.sum(block, 0)
    return found, which + 1


@triton.jit(noinline=True)
def keep(y, value):
    tl.store(y, value)


@triton.jit(noinline=True)
def keep_twice(y, value):
    keep(y, value)
    keep(y + 1, value * 2)


@triton.jit
def calling_kernel(x, y, which, rounds, N: tl.constexpr):
    total = 0.0
    for _ in range(rounds):
        found, which = largest_or_sum(x, which, N)
        total += found
    keep_twice(y, total)


@pytest.mark.parametrize(("which", "rounds"), [(0, 0), (0, 2), (4, 1), (2, 4)])
def test_functions_that_are_called(which: int, rounds: int) -> None:
    x, y = torch.arange(256.0), torch.zeros(2)
    native(calling_kernel)[1](x, y, which, rounds, N=256)
    want = sum(float(x.sum() if which + i > 3 else x.max()) for i in range(rounds))
    assert y.tolist() == [want, 2 * want]


_ARRAY = """
  %mine = alloca [4 x i32], align 16, addrspace(5)
  %more = mul i32 %x, 3
  store i32 %x, ptr addrspace(5) %mine
  %second = getelementptr i32, ptr addrspace(5) %mine, i32 1
  store i32 %more, ptr addrspace(5) %second
"""


def test_memory_of_its_own_is_indexed_by_each_lane(run_lanes: Run) -> None:
    body = (
        _ARRAY
        + """
  %which = and i32 %tid, 1
  %at = getelementptr i32, ptr addrspace(5) %mine, i32 %which
  %y = load i32, ptr addrspace(5) %at"""
    )
    x = torch.arange(64, dtype=torch.int32) + 5
    assert torch.equal(run_lanes(body, x), torch.where(torch.arange(64) % 2 == 1, 3 * x, x))


def test_memory_of_its_own_outlasts_a_meeting(run_lanes: Run) -> None:
    body = (
        _ARRAY
        + """
  call void @llvm.amdgcn.s.barrier()
  %kept = load i32, ptr addrspace(5) %second
  %right = call i32 @llvm.amdgcn.update.dpp.i32(i32 0, i32 %kept, i32 308, i32 15, i32 15, i1 true)
  store i32 %right, ptr addrspace(5) %second
  %y = load i32, ptr addrspace(5) %second"""
    )
    x = torch.arange(128, dtype=torch.int32) + 5
    assert torch.equal(run_lanes(body, x, waves=2), 3 * x.view(2, 64).roll(-1, 1).flatten())


def test_memory_made_in_a_loop_is_refused(run_lanes: Run) -> None:
    body = """
  br label %next
next:
  %mine = alloca i32, align 4, addrspace(5)
  %y = add i32 %x, 0"""
    with pytest.raises(UnsupportedError, match="memory of a lane's own made in a branch"):
        run_lanes(body, range(64))


_CALLED = """
define internal i32 @twice(i32 %v) noinline {
  %w = add i32 %v, %v
  ret i32 %w
}
define internal i32 @forever(i32 %v) noinline {
  %w = call i32 @forever(i32 %v)
  ret i32 %w
}
define internal i32 @least(i32 %v, i32 %limit) noinline {
entry:
  %room = alloca i32, align 4, addrspace(5)
  %is.less = icmp slt i32 %v, %limit
  br i1 %is.less, label %yes, label %no
yes:
  %doubled = call i32 @twice(i32 %v)
  store i32 %doubled, ptr addrspace(5) %room
  %result = load i32, ptr addrspace(5) %room
  ret i32 %result
no:
  ret i32 %limit
}
"""


def test_a_call_in_a_loop_joins_values_from_the_block_after_it(run_lanes: Run) -> None:
    body = """
  br label %loop
loop:
  %i = phi i32 [ 0, %0 ], [ %i.next, %loop ]
  %v = phi i32 [ %x, %0 ], [ %w, %loop ]
  %w = call i32 @least(i32 %v, i32 100)
  %i.next = add i32 %i, 1
  %more = icmp ult i32 %i.next, 3
  br i1 %more, label %loop, label %end
end:
  %y = call i32 @twice(i32 %w)"""
    want = list(range(64))
    for _ in range(3):
        want = [2 * value if value < 100 else 100 for value in want]
    want = [2 * value for value in want]
    assert run_lanes(body, range(64), declare=_CALLED).tolist() == want


def test_a_function_that_calls_itself_is_refused(run_lanes: Run) -> None:
    with pytest.raises(UnsupportedError, match="the function forever calls itself"):
        run_lanes("%y = call i32 @forever(i32 %x)", range(64), declare=_CALLED)
