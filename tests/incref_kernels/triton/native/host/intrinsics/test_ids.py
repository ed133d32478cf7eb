"""Which lane and which program, and how many."""

from collections.abc import Callable

import torch
from torch import Tensor

Run = Callable[..., Tensor]


def test_a_program_knows_its_place_and_its_lanes(run_lanes: Run) -> None:
    body = """
  %lane = call i32 @llvm.amdgcn.workitem.id.x()
  %row = call i32 @llvm.amdgcn.workitem.id.y()
  %plane = call i32 @llvm.amdgcn.workitem.id.z()
  %px = call i32 @llvm.amdgcn.workgroup.id.x()
  %py = call i32 @llvm.amdgcn.workgroup.id.y()
  %pz = call i32 @llvm.amdgcn.workgroup.id.z()
  %p0 = insertelement <6 x i32> zeroinitializer, i32 %px, i32 0
  %p1 = insertelement <6 x i32> %p0, i32 %py, i32 1
  %p2 = insertelement <6 x i32> %p1, i32 %pz, i32 2
  %p3 = insertelement <6 x i32> %p2, i32 %lane, i32 3
  %p4 = insertelement <6 x i32> %p3, i32 %row, i32 4
  %y = insertelement <6 x i32> %p4, i32 %plane, i32 5"""
    got = run_lanes(body, torch.zeros(128), waves=2, words=6, grid=(3, 2, 4)).view(4, 2, 3, 128, 6)
    want = torch.cartesian_prod(torch.arange(4), torch.arange(2), torch.arange(3), torch.arange(128))
    assert torch.equal(got[..., :4].reshape(-1, 4).long(), want[:, [2, 1, 0, 3]])
    assert not got[..., 4:].any()


def test_the_number_of_programs(run_lanes: Run) -> None:
    body = """
  %hidden = call ptr addrspace(4) @llvm.amdgcn.implicitarg.ptr()
  %second.at = getelementptr i8, ptr addrspace(4) %hidden, i64 4
  %first = load i32, ptr addrspace(4) %hidden
  %second = load i32, ptr addrspace(4) %second.at
  %wide = call i64 @__ockl_get_num_groups(i32 2)
  %third = trunc i64 %wide to i32
  %p0 = insertelement <3 x i32> zeroinitializer, i32 %first, i32 0
  %p1 = insertelement <3 x i32> %p0, i32 %second, i32 1
  %y = insertelement <3 x i32> %p1, i32 %third, i32 2"""
    got = run_lanes(body, range(64), words=3, grid=(5, 2, 3)).view(-1, 3)
    assert (got == torch.tensor([5, 2, 3])).all()
