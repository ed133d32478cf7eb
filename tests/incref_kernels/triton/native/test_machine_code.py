"""What a kernel whose lanes never wait for each other is compiled to: a loop of vector instructions, no call."""

import platform
import re

import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.llvm import engine
from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.host.program import host_module
from incref_kernels.triton.native.host.retarget import HostKernel, retarget
from incref_kernels.triton.native.llir.parse_module import parse_module

# Additions and multiplications of four floats or more at once, and calls, as the assembler spells them.
_VECTORS = {
    "x86_64": r"\bv?(add|mul|fmadd\w*)ps\b.*%[xyz]mm",
    "aarch64": r"\bf(add|mul)\s+v\d+\.4s",
}
_CALLS = {"x86_64": r"\bcallq?\b", "aarch64": r"\bblr?\b"}


@triton.jit
def scale_kernel(x, y, factor, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.load(x + at) * factor + 1.0)


@triton.jit
def masked_kernel(x, y, n, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.load(x + at, mask=at < n, other=0.0) + 1.0, mask=at < n)


@triton.jit
def sum_kernel(x, y, N: tl.constexpr):
    tl.store(y, tl.sum(tl.load(x + tl.arange(0, N)), 0))


def retargeted(kernel: triton.JITFunction, *args: object, **constants: object) -> tuple[HostKernel, str]:
    """A kernel for the host, and its module."""
    binding = triton_internals.bind(kernel, "gfx942", args, constants)
    lowered = triton_internals.lower(kernel, "gfx942", binding, constants | {"enable_fp_fusion": False})
    host = retarget(parse_module(lowered.text), arch="gfx942", fused=False)
    return host, host_module(host, waves=lowered.num_warps)


@pytest.mark.parametrize("kernel", [scale_kernel, masked_kernel])
def test_no_lane_waits(kernel: triton.JITFunction) -> None:
    host, text = retargeted(kernel, torch.zeros(4096), torch.zeros(4096), 3, N=4096)
    assert not host.meets
    # Nothing is kept for a lane, there is one stretch of code, and no call but those down to it.
    assert host.frame_bytes == 0
    assert text.count("define internal i32 @region.") == 1
    assert {name for name in re.findall(r"call .*?@([\w.]+)\(", text) if not name.startswith("llvm.")} == {
        "program",
        "wave",
        f"region.{text.split('@region.')[1].split('(')[0]}",
    }


@pytest.mark.skipif(platform.machine() not in _VECTORS, reason=f"not {' or '.join(_VECTORS)}")
def test_the_loop_is_of_vector_instructions_without_a_call() -> None:
    machine = platform.machine()
    _, text = retargeted(scale_kernel, torch.zeros(4096), torch.zeros(4096), 3.0, N=4096)
    code = engine.assembly(text)
    (body,) = re.findall(r"^region\.\S+:.*?^\.?Lfunc_end\d+:", code.replace('"', ""), flags=re.MULTILINE | re.DOTALL)
    assert re.search(_VECTORS[machine], body)
    assert not re.search(_CALLS[machine], body)


def test_a_reduction_waits() -> None:
    host, _ = retargeted(sum_kernel, torch.zeros(4096), torch.zeros(1), N=4096)
    assert host.meets
    assert host.frame_bytes > 0
