"""Hints change nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref_kernels.triton.native.host.intrinsics.control import CONTROL

Run = Callable[..., Tensor]

HINTS = {
    "llvm.amdgcn.s.setprio": "i16 1",
    "llvm.amdgcn.sched.barrier": "i32 0",
    "llvm.amdgcn.sched.group.barrier": "i32 8, i32 1, i32 0",
    "llvm.amdgcn.iglp.opt": "i32 0",
    "llvm.amdgcn.s.waitcnt": "i32 0",
    "llvm.amdgcn.s.sleep": "i32 1",
    "llvm.assume": "i1 true",
    "llvm.lifetime.start": "i64 4, ptr null",
    "llvm.lifetime.end": "i64 4, ptr null",
    "llvm.experimental.noalias.scope.decl": "i32 0",
}


def test_every_hint_is_ignored(run_lanes: Run) -> None:
    calls = "\n".join(f"  call void @{name}({arguments})" for name, arguments in HINTS.items())
    values = torch.arange(64, dtype=torch.int32) - 7
    assert torch.equal(run_lanes(f"{calls}\n  %y = mul i32 %x, 3", values), 3 * values)


def test_what_is_no_hint_waits_or_sets_a_mode() -> None:
    others = {"llvm.amdgcn.s.barrier", "llvm.amdgcn.wave.barrier", "llvm.amdgcn.s.setreg"}
    assert set(CONTROL) == HINTS.keys() | others


@pytest.mark.parametrize("value", [0, 1])
def test_the_clamp_of_fp16_has_no_effect(run_lanes: Run, value: int) -> None:
    # Register 1, from bit 23, one bit: FP16_OVFL.
    body = f"""
  call void @llvm.amdgcn.s.setreg(i32 {1 | 23 << 6}, i32 {value})
  %big = insertelement <2 x half> zeroinitializer, half 0xH7BFF, i32 0
  %sum = fadd <2 x half> %big, %big
  %bits = bitcast <2 x half> %sum to i32
  %y = add i32 %bits, %x"""
    assert run_lanes(body, torch.zeros(64)).view(torch.float16)[0] == float("inf")
