from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref_kernels.triton.native.extents import KernelError

Run = Callable[..., Tensor]


def mirrored(between: str, last: int) -> str:
    """Each lane writes its own word and reads another lane's, with `between` in between."""
    return f"""
  %mine = getelementptr i32, ptr addrspace(3) @shared, i32 %tid
  store i32 %x, ptr addrspace(3) %mine
  {between}
  %mirrored = sub i32 {last}, %tid
  %other = getelementptr i32, ptr addrspace(3) @shared, i32 %mirrored
  %y = load i32, ptr addrspace(3) %other"""


def test_a_barrier_in_between_is_enough(run_lanes: Run) -> None:
    body = mirrored("call void @llvm.amdgcn.s.barrier()", 127)
    assert run_lanes(body, torch.arange(128), waves=2, shared=True).tolist() == list(range(127, -1, -1))


def test_a_meeting_of_the_wave_is_enough_for_its_own_lanes(run_lanes: Run) -> None:
    body = mirrored("call void @llvm.amdgcn.wave.barrier()", 63)
    assert run_lanes(body, torch.arange(64), shared=True).tolist() == list(range(63, -1, -1))


def test_a_meeting_of_the_wave_is_not_enough_for_others(run_lanes: Run) -> None:
    body = mirrored("call void @llvm.amdgcn.wave.barrier()", 127)
    with pytest.raises(KernelError, match=r"lanes 64 and 63 touch byte 256 of shared memory without a barrier"):
        run_lanes(body, torch.arange(128), waves=2, shared=True)


def test_no_meeting_at_all_is_found_within_a_wave(run_lanes: Run) -> None:
    with pytest.raises(
        KernelError, match=r"lanes \d+ and \d+ touch byte \d+ .* (load|store) of 4 bytes of shared memory"
    ):
        run_lanes(mirrored("", 63), torch.arange(64), shared=True)
