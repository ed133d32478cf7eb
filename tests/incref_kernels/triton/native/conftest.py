"""What the tests of native kernels share: they need Triton, not interpreting, and llvmlite."""

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")
if type(triton.language.max).__name__ == "InterpretedFunction":
    pytest.skip("this process interprets Triton (TRITON_INTERPRET)", allow_module_level=True)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile everything anew, once a session."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(name="run_lanes")
def fixture_run_lanes() -> Callable[..., Tensor]:
    """Run LLVM IR of the GPU: each lane reads its `i32 %x`, the body computes `%y`, the lane writes it.

    With `words` of more than one `%y` is a vector of so many i32. Programs of a `grid` write one after the other, the
    first axis fastest.
    """
    return run_lanes


def run_lanes(
    body: str,
    values: Sequence[int] | Tensor,
    *,
    waves: int = 1,
    declare: str = "",
    arch: str = "gfx942",
    shared: bool = False,
    words: int = 1,
    grid: tuple[int, int, int] = (1, 1, 1),
) -> Tensor:
    from incref_kernels.llvm import engine
    from incref_kernels.triton.native.compiled import CompiledKernel
    from incref_kernels.triton.native.host.checks import Check
    from incref_kernels.triton.native.host.program import host_module
    from incref_kernels.triton.native.host.retarget import retarget
    from incref_kernels.triton.native.llir.parse_module import parse_module
    from incref_kernels.triton.native.worker import Layout

    kind = "i32" if words == 1 else f"<{words} x i32>"
    text = f"""
@shared = external addrspace(3) global [0 x i8], align 16
declare i32 @llvm.amdgcn.workitem.id.x()
{declare}
define amdgpu_kernel void @kernel(ptr addrspace(1) %in, ptr addrspace(1) %out) {{
  %tid = call i32 @llvm.amdgcn.workitem.id.x()
  %in.at = getelementptr i32, ptr addrspace(1) %in, i32 %tid
  %x = load i32, ptr addrspace(1) %in.at
{body}
  %out.x = call i32 @llvm.amdgcn.workgroup.id.x()
  %out.y = call i32 @llvm.amdgcn.workgroup.id.y()
  %out.z = call i32 @llvm.amdgcn.workgroup.id.z()
  %out.plane = mul i32 %out.z, {grid[1]}
  %out.row = add i32 %out.plane, %out.y
  %out.rows = mul i32 %out.row, {grid[0]}
  %out.program = add i32 %out.rows, %out.x
  %out.start = mul i32 %out.program, {64 * waves}
  %out.lane = add i32 %out.start, %tid
  %out.far = mul i32 %out.lane, {4 * words}
  %out.at = getelementptr i8, ptr addrspace(1) %out, i32 %out.far
  store {kind} %y, ptr addrspace(1) %out.at, align 4
  ret void
}}
"""
    host = retarget(parse_module(text), arch=arch, fused=False, checks=frozenset({Check.SHARED} if shared else ()))
    kernel = CompiledKernel(
        name="kernel",
        signature=("*i32", "*i32"),
        parameters=host.parameters,
        layout=Layout(waves=waves, shared=4096, frame=host.frame_bytes, watched=4096 * shared),
        sites=host.sites,
        loaded=engine.load(engine.build(host_module(host, waves=waves))),
    )
    given = torch.as_tensor(values, dtype=torch.int32)
    result = torch.full((64 * waves * words * prod(grid),), -1, dtype=torch.int32)
    kernel.launch(grid, {"in": given, "out": result}, threads=1, seed=None)
    return result


@pytest.fixture(name="cache_directory")
def fixture_cache_directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"
