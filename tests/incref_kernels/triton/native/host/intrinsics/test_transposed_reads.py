"""Reads of shared memory that transpose: what each lane gets, of known contents."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref_kernels.triton.native.extents import KernelError

Run = Callable[..., Tensor]

# Name, type of the result, bits of an element.
READS = [("llvm.amdgcn.ds.read.tr16.b64", "v4i16", 16), ("llvm.amdgcn.ds.read.tr8.b64", "v2i32", 8)]


def mirrored(name: str, kind: str, between: str) -> str:
    """Each lane writes 8 bytes of its own; the rows are read from the end."""
    vector = {"v4i16": "<4 x i16>", "v2i32": "<2 x i32>"}[kind]
    return f"""
  %far = mul i32 %tid, 8
  %mine = getelementptr i8, ptr addrspace(3) @shared, i32 %far
  %next = mul i32 %x, 77
  store i32 %x, ptr addrspace(3) %mine
  %second = getelementptr i8, ptr addrspace(3) %mine, i32 4
  store i32 %next, ptr addrspace(3) %second
  {between}
  %mirrored = sub i32 504, %far
  %there = getelementptr i8, ptr addrspace(3) @shared, i32 %mirrored
  %column = call {vector} @{name}.{kind}(ptr addrspace(3) %there)
  %y = bitcast {vector} %column to <2 x i32>"""


@pytest.mark.parametrize(("name", "kind", "bits"), READS)
def test_a_lane_gets_a_column(run_lanes: Run, name: str, kind: str, bits: int) -> None:
    body = mirrored(name, kind, "call void @llvm.amdgcn.s.barrier()")
    values = torch.randint(-(2**31), 2**31, (64,), generator=torch.Generator().manual_seed(bits)).to(torch.int32)
    dtype = {16: torch.int16, 8: torch.int8}[bits]
    rows = torch.stack([values, values * 77], 1).flip(0).contiguous().view(dtype)
    # [a matrix of 16 lanes, row, column]
    matrices = rows.view(4, -1, 16)
    got = run_lanes(body, values, arch="gfx950", words=2, shared=True).view(dtype).view(4, 16, -1)
    assert torch.equal(got, matrices.transpose(1, 2))


@pytest.mark.parametrize(("name", "kind", "bits"), READS)
def test_a_read_without_a_meeting_after_a_write_is_a_race(run_lanes: Run, name: str, kind: str, bits: int) -> None:
    body = mirrored(name, kind, "")
    with pytest.raises(KernelError, match=r"lanes \d+ and \d+ touch byte \d+ of shared memory without"):
        run_lanes(body, torch.full((64,), bits), arch="gfx950", words=2, shared=True)
