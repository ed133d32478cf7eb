"""Lanes that wait at different places, as a GPU runs them: those that come first in the code go first."""

from collections.abc import Callable

import torch
from torch import Tensor

Run = Callable[..., Tensor]

# A loop that each lane leaves when the first lane that is left has its own value: the number of rounds is the lane's
# place among the distinct values, and the ballot the lanes of equal value.
WATERFALL = """
  br label %loop
loop:
  %round = phi i32 [ 0, %0 ], [ %round.next, %loop ]
  %leader = call i32 @llvm.amdgcn.readfirstlane.i32(i32 %x)
  %same = icmp eq i32 %leader, %x
  %mask = call i64 @llvm.amdgcn.ballot.i64(i1 %same)
  %round.next = add i32 %round, 1
  br i1 %same, label %done, label %loop
done:
  %count = call i64 @llvm.ctpop.i64(i64 %mask)
  %narrow = trunc i64 %count to i32
"""


def test_a_waterfall_loop_serves_one_value_a_round(run_lanes: Run) -> None:
    body = (
        WATERFALL
        + """
  %scaled = mul i32 %round, 100
  %y = add i32 %scaled, %narrow"""
    )
    values = torch.tensor([lane * 7 % 5 for lane in range(64)])
    order = list(dict.fromkeys(values.tolist()))
    want = [100 * order.index(value) + int((values == value).sum()) for value in values.tolist()]
    assert run_lanes(body, values).tolist() == want


def test_lanes_are_together_again_after_the_loop(run_lanes: Run) -> None:
    body = (
        WATERFALL
        + """
  %all = call i64 @llvm.amdgcn.ballot.i64(i1 true)
  %low = trunc i64 %all to i32
  %y = add i32 %low, 0"""
    )
    assert set(run_lanes(body, torch.arange(64) % 5).tolist()) == {-1}


SIDES = """
  %low = icmp ult i32 %tid, 24
  br i1 %low, label %left, label %right
left:
  {left}
  br label %end
right:
  {right}
  br label %end
end:
  %y = phi i32 [ %a, %left ], [ %b, %right ]"""


def test_each_side_of_a_branch_sees_its_own_lanes(run_lanes: Run) -> None:
    first = "call i32 @llvm.amdgcn.readfirstlane.i32(i32 %x)"
    body = SIDES.format(left=f"%a = {first}", right=f"%b = {first}")
    assert run_lanes(body, torch.arange(64)).tolist() == [0] * 24 + [24] * 40


def test_a_lane_that_is_elsewhere_reads_as_zero_or_keeps_the_old_value(run_lanes: Run) -> None:
    left = """%turn = shl i32 %tid, 3
  %a = call i32 @llvm.amdgcn.ds.bpermute(i32 %turn, i32 %x)"""
    right = "%b = call i32 @llvm.amdgcn.update.dpp.i32(i32 -5, i32 %x, i32 312, i32 15, i32 15, i1 false)"
    got = run_lanes(SIDES.format(left=left, right=right), torch.arange(64) + 100).tolist()
    assert got[:24] == [100 + 2 * lane if 2 * lane < 24 else 0 for lane in range(24)]
    assert got[24:] == [-5, *range(124, 163)]


def test_a_lane_that_is_elsewhere_is_pushed_nothing(run_lanes: Run) -> None:
    left = """%turn = shl i32 %tid, 3
  %a = call i32 @llvm.amdgcn.ds.permute(i32 %turn, i32 %x)"""
    got = run_lanes(
        SIDES.format(left=left, right="%b = call i32 @llvm.amdgcn.readlane.i32(i32 %x, i32 63)"), torch.arange(64) + 100
    )
    assert got.tolist() == [100 + lane // 2 if lane % 2 == 0 else 0 for lane in range(24)] + [163] * 40
