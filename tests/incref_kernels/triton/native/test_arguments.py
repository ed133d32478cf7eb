"""Arguments and ways to name memory, each natively."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.ops import decode, encode
from incref_kernels.triton.native.native import native

DTYPES = [
    torch.bool, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip


@triton.jit
def reversing_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + (N - 1 - at), tl.load(x + at))


def codes(dtype: torch.dtype) -> Tensor:
    """64 elements of any bits."""
    if dtype == torch.bool:
        return torch.arange(64) % 3 == 0
    count = 64 * dtype.itemsize
    return torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(7)).to(torch.uint8).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pointers_to_every_type(dtype: torch.dtype) -> None:
    x = codes(dtype)
    y = torch.zeros(64 * dtype.itemsize, dtype=torch.uint8).view(dtype)
    native(reversing_kernel)[1](x, y, N=64)
    assert torch.equal(y.view(torch.uint8).view(64, -1), x.view(torch.uint8).view(64, -1).flip(0))


@triton.jit
def nested_kernel(given, out, N: tl.constexpr):
    at = tl.arange(0, N)
    inner = given[1]
    value = tl.load(given[0] + at) + inner[0] * 10
    if inner[1] is None:
        value += 1
    tl.store(out + at, value)


def test_tuples_in_tuples() -> None:
    x, out = torch.arange(64), torch.zeros(64, dtype=torch.int64)
    native(nested_kernel)[1]((x, (4, None)), out, N=64)
    assert torch.equal(out, x + 41)


@triton.jit
def device_descriptor_kernel(x, y, rows, M: tl.constexpr, N: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [rows, N], [N, 1], [M, N])
    target = tl.make_tensor_descriptor(y, [rows, N], [N, 1], [M, N])
    first = tl.program_id(0) * M
    target.store([first, 0], source.load([first, 0]) + 1)


def test_descriptors_made_by_the_kernel_end_with_the_tensor() -> None:
    x, y = torch.arange(40 * 32).view(40, 32).float(), torch.full((48, 32), -1.0)
    native(device_descriptor_kernel)[3](x, y, 40, M=16, N=32)
    assert torch.equal(y[:40], x + 1)
    assert (y[40:] == -1).all()


@triton.jit
def block_pointer_kernel(x, y, rows, M: tl.constexpr, N: tl.constexpr):
    source = tl.make_block_ptr(x, (rows, N), (N, 1), (0, 0), (M, N), (1, 0))
    target = tl.make_block_ptr(y, (rows, N), (N, 1), (0, 0), (M, N), (1, 0))
    source = tl.advance(source, (M, 0))
    tl.store(target, tl.load(source, boundary_check=(0,), padding_option="zero"))


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
def test_block_pointers() -> None:
    """Triton 3.9 has them no more, and says so."""
    x, y = torch.arange(24 * 32).view(24, 32).float() + 1, torch.full((24, 32), -1.0)
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    if version >= (3, 9):
        with pytest.raises(triton.CompilationError):
            native(block_pointer_kernel)[1](x, y, 24, M=16, N=32)
        return
    native(block_pointer_kernel)[1](x, y, 24, M=16, N=32)
    assert torch.equal(y, torch.cat([x[16:], torch.zeros(8, 32), torch.full((8, 32), -1.0)]))


@triton.jit
def scaled_kernel(a, s, b, t, c, S: tl.constexpr, KIND: tl.constexpr, PER_BYTE: tl.constexpr, GROUP: tl.constexpr):
    at, held, groups = tl.arange(0, S), tl.arange(0, S // PER_BYTE), tl.arange(0, S // GROUP)
    x = tl.load(a + at[:, None] * (S // PER_BYTE) + held[None, :])
    y = tl.load(b + at[None, :] * (S // PER_BYTE) + held[:, None])
    p = tl.load(s + at[:, None] * (S // GROUP) + groups[None, :])
    q = tl.load(t + at[:, None] * (S // GROUP) + groups[None, :])
    tl.store(c + at[:, None] * S + at[None, :], tl.dot_scaled(x, p, KIND, y, q, KIND))


def elements(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """A matrix of 64 by 64 as it is stored, and its values."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "e2m1":
        stored = torch.randint(0, 16, (64, 64), generator=generator).to(torch.uint8)
        return stored[:, ::2] | stored[:, 1::2] << 4, decode(stored, "float4_e2m1fn").double()
    values = torch.randint(-4, 5, (64, 64), generator=generator).float()
    return values.to(torch.float8_e4m3fn if kind == "e4m3" else torch.float8_e5m2), values.double()


@pytest.mark.skipif(triton.__version__.startswith("3.6."), reason="Triton 3.6 has no such lowering")
@pytest.mark.parametrize(("kind", "group"), [("e4m3", 32), ("e5m2", 32), ("e2m1", 32), ("e2m1", 16)])
def test_products_with_scales(kind: str, group: int) -> None:
    """MXFP8, MXFP4 and, with groups of 16, NVFP4, of values whose sums are exact."""
    (a, x), (b, y) = elements(kind, 1), elements(kind, 2)
    powers = torch.randint(-2, 3, (2, 64, 64 // group), generator=torch.Generator().manual_seed(3))
    factors = torch.exp2(powers.double())
    shifted = (powers + 127).to(torch.uint8)
    scales = shifted if group == 32 else encode(factors, "e4m3fn").view(torch.float8_e4m3fn)
    c = torch.zeros(64, 64)
    native(scaled_kernel)[1](
        a, scales[0].contiguous(), b, scales[1].contiguous(), c,
        S=64, KIND=kind, PER_BYTE=2 if kind == "e2m1" else 1, GROUP=group,
    )  # fmt: skip
    wide = [values * factor.repeat_interleave(group, 1) for values, factor in zip((x, y), factors, strict=True)]
    assert torch.equal(c.double(), wide[0] @ wide[1].T)
