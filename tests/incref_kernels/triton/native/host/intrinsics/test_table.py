import re
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.fp8 import decoders
from incref_kernels.triton.native.host.intrinsics.printing import PRINTING
from incref_kernels.triton.native.host.intrinsics.scaled_casts import SCALED_CASTS
from incref_kernels.triton.native.host.intrinsics.table import FIXED, base_name, is_host_intrinsic

Run = Callable[..., Tensor]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("llvm.amdgcn.update.dpp.f32", "llvm.amdgcn.update.dpp"),
        ("llvm.amdgcn.raw.ptr.buffer.load.v4f32", "llvm.amdgcn.raw.ptr.buffer.load"),
        ("llvm.maxnum.v2bf16", "llvm.maxnum"),
        ("llvm.amdgcn.s.barrier", "llvm.amdgcn.s.barrier"),
    ],
)
def test_base_name_drops_types(name: str, base: str) -> None:
    assert base_name(name) == base


def test_only_functions_with_one_meaning_are_left_to_the_host() -> None:
    assert is_host_intrinsic("llvm.ctpop.i64")
    assert not is_host_intrinsic("llvm.fmuladd.f32")
    assert not is_host_intrinsic("llvm.maxnum.f32")
    assert not is_host_intrinsic("llvm.amdgcn.rcp.f32")


def test_an_unknown_intrinsic_is_named(run_lanes: Run) -> None:
    with pytest.raises(UnsupportedError, match=r"llvm\.amdgcn\.mystery\.i32 of gfx942 is not known"):
        run_lanes("%y = call i32 @llvm.amdgcn.mystery.i32(i32 %x)", range(64))


def test_an_unknown_mode_is_refused(run_lanes: Run) -> None:
    with pytest.raises(UnsupportedError, match="s_setreg 2049 changes a mode"):
        run_lanes("call void @llvm.amdgcn.s.setreg(i32 2049, i32 1)\n  %y = add i32 %x, 0", range(64))


def test_inline_assembly_is_refused_with_its_text(run_lanes: Run) -> None:
    with pytest.raises(UnsupportedError, match="inline assembly 'v_mov_b32 \\$0, \\$1' has no meaning"):
        run_lanes('%y = call i32 asm "v_mov_b32 $0, $1", "=v,v"(i32 %x)', range(64))


@pytest.mark.parametrize("name", [*FIXED, *PRINTING, *SCALED_CASTS, *decoders("gfx942")])
def test_a_test_calls_it(name: str) -> None:
    """What is defined is tried alone: a test in this directory calls it, or is given its name."""
    tests = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name]
    assert any(re.search(rf"{re.escape(name)}(?!\w)", path.read_text()) for path in tests)
