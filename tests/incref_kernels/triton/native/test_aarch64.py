"""Kernels compiled for aarch64, run by an emulator of it: the results have the bits that they have here."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from math import prod
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref_kernels.llvm import engine
from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.host.context import Context, offset
from incref_kernels.triton.native.host.program import host_module
from incref_kernels.triton.native.host.retarget import retarget
from incref_kernels.triton.native.llir.parse_module import parse_module
from incref_kernels.triton.native.native import native

_TRIPLE = "aarch64-linux-gnu"
_COMPILER, _EMULATOR = f"{_TRIPLE}-gcc", "qemu-aarch64"

pytestmark = pytest.mark.skipif(
    shutil.which(_COMPILER) is None or shutil.which(_EMULATOR) is None,
    reason=f"{_COMPILER} and {_EMULATOR} are not installed (gcc-aarch64-linux-gnu, qemu-user)",
)

# Reads the sizes of the memory, the grid, and of each argument the number of its bytes and these; a number's is 0.
_DRIVER = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t run(void *arguments, void *context);

static int64_t word(void) {
    int64_t value;
    if (fread(&value, sizeof value, 1, stdin) != 1) exit(2);
    return value;
}

static char *room(int64_t size) {
    char *memory = aligned_alloc(64, (size + 127) / 64 * 64);
    memset(memory, 0, size);
    return memory;
}

static void put(char *context, int place, const void *pointer) { memcpy(context + place, &pointer, sizeof pointer); }

int main(void) {
    char *context = room(CONTEXT_SIZE);
    int64_t counter = 0, sizes[64], values[64], chunk = 1;
    put(context, AT_LDS, room(word()));
    put(context, AT_STATES, room(word()));
    put(context, AT_FRAMES, room(word()));
    int64_t total = 1;
    for (int axis = 0; axis < 3; axis++) {
        int32_t size = word();
        total *= size;
        memcpy(context + AT_GRID + 4 * axis, &size, sizeof size);
    }
    put(context, AT_COUNTER, &counter);
    memcpy(context + AT_TOTAL, &total, sizeof total);
    memcpy(context + AT_CHUNK, &chunk, sizeof chunk);
    int64_t count = word();
    for (int i = 0; i < count; i++) {
        sizes[i] = word();
        if (!sizes[i]) {
            values[i] = word();
            continue;
        }
        char *tensor = room(sizes[i]);
        if (fread(tensor, 1, sizes[i], stdin) != (size_t)sizes[i]) exit(2);
        values[i] = (int64_t)tensor;
    }
    values[count] = values[count + 1] = 0;
    int32_t failure = run(values, context);
    for (int i = 0; i < count; i++)
        if (sizes[i]) fwrite((void *)values[i], 1, sizes[i], stdout);
    return failure;
}
"""


@triton.jit
def encode_kernel(x, y, N: tl.constexpr):
    """A cast to E4M3 in integers, without its special cases: round to three bits of a normal number."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    bits = tl.load(x + at).to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    rounded = (magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20
    code = tl.minimum(tl.maximum(rounded - (120 << 3), 0), 0x7E)
    tl.store(y + at, (code | ((bits >> 24) & 0x80)).to(tl.uint8))


@triton.jit
def ranked_kernel(x, y, columns, N: tl.constexpr):
    at = tl.arange(0, N)
    row = tl.load(x + tl.program_id(0) * columns + at, mask=at < columns, other=-float("inf"))
    shifted = row - tl.max(row, 0)
    total = tl.sum(tl.where(at < columns, shifted, 0.0), 0)
    tl.store(y + tl.program_id(0) * columns + at, tl.sort(shifted / total), mask=at < columns)


@triton.jit
def dot_kernel(a, b, c, S: tl.constexpr, OUT: tl.constexpr):
    rows, columns = tl.arange(0, S)[:, None], tl.arange(0, S)[None, :]
    product = tl.dot(tl.load(a + rows * S + columns), tl.load(b + rows * S + columns), out_dtype=OUT)
    tl.store(c + rows * S + columns, product)


def run_emulated(
    kernel: object, grid: tuple[int, int, int], arguments: Sequence[Tensor | int], directory: Path, **constants: object
) -> list[bytes]:
    """The contents of the tensors after a launch on aarch64."""
    compiled = native(kernel).kernel
    binding = triton_internals.bind(compiled, "gfx942", arguments, constants)
    lowered = triton_internals.lower(compiled, "gfx942", binding, constants | {"enable_fp_fusion": False})
    host = retarget(parse_module(lowered.text), arch="gfx942", fused=False)
    image = engine.build(host_module(host, waves=lowered.num_warps), engine.machine_of(_TRIPLE))
    (directory / "kernel.o").write_bytes(image)
    (directory / "driver.c").write_text(_DRIVER)
    names = ("lds", "states", "frames", "grid", "counter", "total", "chunk")
    places = [f"-DAT_{name.upper()}={offset(name)}" for name in names]
    sizes = [f"-DCONTEXT_SIZE={Context.__sizeof__(Context())}"]
    program = directory / "driver"
    command = [_COMPILER, "-O1", "-static", *places, *sizes, directory / "driver.c", directory / "kernel.o"]
    subprocess.run([*command, "-lm", "-o", program], check=True)
    frames = lowered.num_warps * host.frame_bytes
    given = struct.pack("<7q", lowered.shared, 4 * lowered.num_warps, frames, *grid, len(arguments))
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    for value in arguments:
        given += (
            struct.pack("<q", value.nbytes) + contents(value)
            if isinstance(value, Tensor)
            else struct.pack("<2q", 0, value)
        )
    done = subprocess.run([_EMULATOR, program], input=given, capture_output=True, check=True)
    assert len(done.stdout) == sum(tensor.nbytes for tensor in tensors)
    ends = [sum(tensor.nbytes for tensor in tensors[: index + 1]) for index in range(len(tensors))]
    return [done.stdout[end - tensor.nbytes : end] for end, tensor in zip(ends, tensors, strict=True)]


def contents(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy())


def check(
    kernel: object, grid: tuple[int, int, int], arguments: Sequence[Tensor | int], directory: Path, **constants: object
) -> None:
    emulated = run_emulated(kernel, grid, arguments, directory, **constants)
    native(kernel)[grid](*arguments, **constants)
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    assert prod(grid) > 0
    assert [contents(tensor) for tensor in tensors] == emulated
    assert any(contents(tensors[-1]))


def test_a_cast(tmp_path: Path) -> None:
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 8
    check(encode_kernel, (4, 1, 1), (x, torch.zeros(4096, dtype=torch.uint8)), tmp_path, N=1024)


def test_lanes_that_wait_for_each_other(tmp_path: Path) -> None:
    x = torch.randn(3, 300, generator=torch.Generator().manual_seed(0))
    check(ranked_kernel, (3, 1, 1), (x, torch.zeros(3, 300), 300), tmp_path, N=512)


@pytest.mark.parametrize(("dtype", "out"), [(torch.int8, tl.int32), (torch.float16, tl.float32)])
def test_a_product(dtype: torch.dtype, out: tl.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-100, 100, (32, 32), generator=generator).to(dtype) for _ in range(2))
    c = torch.zeros(32, 32, dtype=torch.int32 if dtype == torch.int8 else torch.float32)
    check(dot_kernel, (1, 1, 1), (a, b, c), tmp_path, S=32, OUT=out)
