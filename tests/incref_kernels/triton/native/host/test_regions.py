from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref_kernels.triton.native.extents import KernelError

Run = Callable[..., Tensor]


def test_a_barrier_that_half_a_wave_skips_is_an_error(run_lanes: Run) -> None:
    body = """
  %low = icmp ult i32 %tid, 32
  br i1 %low, label %wait, label %end
wait:
  call void @llvm.amdgcn.s.barrier()
  br label %end
end:
  %y = add i32 %x, 0"""
    with pytest.raises(
        KernelError, match=r"kernel kernel, program .* the lanes of the wave that starts at lane 0 wait"
    ):
        run_lanes(body, range(64))


def test_a_barrier_that_a_wave_skips_is_an_error(run_lanes: Run) -> None:
    body = """
  %low = icmp ult i32 %tid, 64
  br i1 %low, label %wait, label %end
wait:
  call void @llvm.amdgcn.s.barrier()
  br label %end
end:
  %y = add i32 %x, 0"""
    with pytest.raises(KernelError, match=r"not all waves reach the same barrier: .* s.barrier.* its end"):
        run_lanes(body, range(128), waves=2)


def test_values_live_across_meetings_in_both_arms_of_a_uniform_branch(run_lanes: Run) -> None:
    body = """
  %square = mul i32 %x, %x
  %wave = lshr i32 %tid, 6
  %first = icmp eq i32 %wave, 0
  br i1 %first, label %left, label %right
left:
  %a = call i32 @llvm.amdgcn.readlane.i32(i32 %square, i32 5)
  br label %end
right:
  %b = call i32 @llvm.amdgcn.readlane.i32(i32 %x, i32 6)
  %c = call i32 @llvm.amdgcn.readlane.i32(i32 %b, i32 7)
  br label %end
end:
  %v = phi i32 [ %a, %left ], [ %c, %right ]
  %y = add i32 %v, %square"""
    values = torch.arange(128, dtype=torch.int32)
    want = values * values + torch.tensor([25] * 64 + [70] * 64)
    assert torch.equal(run_lanes(body, values, waves=2), want.int())


def test_a_phi_that_is_remembered_keeps_its_round(run_lanes: Run) -> None:
    body = """
  br label %outer
outer:
  %i = phi i32 [ 0, %0 ], [ %i.next, %outer ]
  %old = phi i32 [ %x, %0 ], [ %new, %outer ]
  %older = phi i32 [ 0, %0 ], [ %old, %outer ]
  %shown = call i32 @llvm.amdgcn.readlane.i32(i32 %old, i32 1)
  %part = add i32 %shown, %older
  %new = add i32 %part, %old
  %i.next = add i32 %i, 1
  %more = icmp ult i32 %i.next, 4
  br i1 %more, label %outer, label %end
end:
  %y = add i32 %new, %older"""
    values = torch.arange(64)
    old, older = values.clone(), torch.zeros(64, dtype=torch.int64)
    for _ in range(4):
        new = old[1] + older + old
        last, older, old = older, old, new
    assert run_lanes(body, values.int()).tolist() == (old + last).tolist()
