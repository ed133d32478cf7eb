"""Operations of the Triton language, against PyTorch."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.triton.native.native import native

SIZE = 1024
WARPS = pytest.mark.parametrize("num_warps", [1, 4, 8])


@triton.jit
def reduce_kernel(x, y, N: tl.constexpr, OP: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    if OP == "sum":
        r = tl.sum(v, 0)
    elif OP == "max":
        r = tl.max(v, 0)
    elif OP == "min":
        r = tl.min(v, 0)
    elif OP == "argmax":
        r = tl.argmax(v, 0)
    elif OP == "argmin":
        r = tl.argmin(v, 0)
    else:
        r = tl.xor_sum(v, 0)
    tl.store(y, r)


def reduced(x: Tensor, operation: str, num_warps: int) -> int:
    y = torch.zeros(1, dtype=torch.int32)
    native(reduce_kernel)[1](x, y, N=SIZE, OP=operation, num_warps=num_warps)
    return int(y)


@WARPS
def test_reductions_of_integers(num_warps: int) -> None:
    x = torch.randint(-1000, 1000, (SIZE,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    x[77], x[901] = 5000, -5000
    xor = 0
    for value in x.tolist():
        xor ^= value
    got = [reduced(x, name, num_warps) for name in ("sum", "max", "min", "argmax", "argmin", "xor")]
    assert got == [int(x.sum()), 5000, -5000, 77, 901, xor]


@triton.jit
def rows_kernel(x, y, z, M: tl.constexpr, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    tl.store(y + tl.arange(0, M), tl.sum(v, 1))
    tl.store(z + tl.arange(0, N), tl.sum(v, 0))


@WARPS
@pytest.mark.parametrize(("rows", "columns"), [(64, 16), (4, 256), (256, 4)])
def test_sums_over_either_axis(rows: int, columns: int, num_warps: int) -> None:
    # Small integers: exact in whatever order.
    x = torch.randint(-9, 9, (rows, columns), generator=torch.Generator().manual_seed(0)).float()
    y, z = torch.zeros(rows), torch.zeros(columns)
    native(rows_kernel)[1](x, y, z, M=rows, N=columns, num_warps=num_warps)
    assert torch.equal(y, x.sum(1))
    assert torch.equal(z, x.sum(0))


@triton.jit
def scan_kernel(x, y, z, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.store(y + tl.arange(0, N), tl.cumsum(v, 0))
    tl.store(z + tl.arange(0, N), tl.cumsum(v, 0, reverse=True))


@WARPS
def test_cumulative_sums(num_warps: int) -> None:
    x = torch.randint(-100, 100, (SIZE,), dtype=torch.int32, generator=torch.Generator().manual_seed(1))
    y, z = torch.zeros_like(x), torch.zeros_like(x)
    native(scan_kernel)[1](x, y, z, N=SIZE, num_warps=num_warps)
    assert torch.equal(y, x.cumsum(0).int())
    assert torch.equal(z, x.flip(0).cumsum(0).flip(0).int())


@triton.jit
def order_kernel(x, i, s, h, g, N: tl.constexpr, BINS: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.store(s + tl.arange(0, N), tl.sort(v))
    tl.store(h + tl.arange(0, BINS), tl.histogram(v, BINS))
    tl.store(g + tl.arange(0, N), tl.gather(v, tl.load(i + tl.arange(0, N)), 0))


@pytest.mark.parametrize("num_warps", [1, 4])
def test_sort_histogram_and_gather(num_warps: int) -> None:
    generator = torch.Generator().manual_seed(2)
    size = 128
    x = torch.randint(0, 32, (size,), dtype=torch.int32, generator=generator)
    index = torch.randint(0, size, (size,), dtype=torch.int32, generator=generator)
    ordered, counts, taken = torch.zeros_like(x), torch.zeros(32, dtype=torch.int32), torch.zeros_like(x)
    native(order_kernel)[1](x, index, ordered, counts, taken, N=size, BINS=32, num_warps=num_warps)
    assert torch.equal(ordered, x.sort()[0])
    assert torch.equal(counts, torch.bincount(x, minlength=32).int())
    assert torch.equal(taken, x[index.long()])


@triton.jit
def shape_kernel(x, t, j, p, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    v = tl.load(x + at)
    tl.store(t + tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :], tl.trans(v))
    tl.store(p + tl.arange(0, M * N), tl.reshape(v, (M * N,)))
    low = tl.load(x + tl.arange(0, N))
    joined = tl.join(low, low + 1000)
    a, b = tl.split(joined)
    tl.store(j + tl.arange(0, 2 * N), tl.interleave(a, b))


@WARPS
def test_shapes(num_warps: int) -> None:
    rows, columns = 16, 64
    x = torch.arange(rows * columns, dtype=torch.int32).view(rows, columns)
    t, j, p = torch.zeros(columns, rows).int(), torch.zeros(2 * columns).int(), torch.zeros(rows * columns).int()
    native(shape_kernel)[1](x, t, j, p, M=rows, N=columns, num_warps=num_warps)
    assert torch.equal(t, x.T)
    assert torch.equal(p, x.flatten())
    assert torch.equal(j, torch.stack([x[0], x[0] + 1000], 1).flatten())


@triton.jit
def atomic_kernel(x, y, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + at)
    tl.atomic_add(y + v % 8, v)
    tl.atomic_max(y + 8, tl.max(v, 0))
    tl.atomic_min(y + 9, tl.min(v, 0))
    tl.atomic_xor(y + 10 + v % 1, v)
    tl.atomic_or(y + 11 + v % 1, v)
    tl.atomic_cas(y + 12, 0, 7)


def test_atomics_of_all_programs() -> None:
    x = torch.randint(0, 1000, (4 * 256,), dtype=torch.int32, generator=torch.Generator().manual_seed(3))
    y = torch.zeros(13, dtype=torch.int32)
    y[9] = 10000
    native(atomic_kernel, threads=2)[4](x, y, N=256)
    want = torch.zeros(8, dtype=torch.int32).scatter_add_(0, (x % 8).long(), x)
    xor = bits = 0
    for value in x.tolist():
        xor ^= value
        bits |= value
    assert y.tolist() == [*want.tolist(), int(x.max()), int(x.min()), xor, bits, 7]


@triton.jit
def atomic_float_kernel(x, y, z, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.atomic_add(y + tl.arange(0, N) % 4, v)
    tl.atomic_xchg(z + tl.arange(0, N), v)


def test_atomics_of_floats() -> None:
    x = torch.arange(256).float()
    y, z = torch.zeros(4), torch.zeros(256)
    native(atomic_float_kernel)[1](x, y, z, N=256)
    assert torch.equal(y, x.view(-1, 4).sum(0))
    assert torch.equal(z, x)


@triton.jit
def masked_kernel(x, y, n, N: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at, mask=at < n, other=-7)
    tl.store(y + at, v, mask=at % 3 != 0)


def test_masks_with_other() -> None:
    x = torch.arange(300, dtype=torch.int16)
    y = torch.full((512,), 99, dtype=torch.int16)
    native(masked_kernel)[1](x, y, 300, N=512)
    at = torch.arange(512)
    want = torch.where(at % 3 == 0, 99, torch.where(at < 300, at, -7)).short()
    assert torch.equal(y, want)


@triton.jit
def cast_kernel(x, y, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.load(x + at).to(y.dtype.element_ty))


@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16, torch.float64])
def test_casts_of_float(target: torch.dtype) -> None:
    codes = torch.randint(-(1 << 31), 1 << 31, (1 << 14,), generator=torch.Generator().manual_seed(4)).int()
    x = codes.view(torch.float32)
    got = torch.zeros(x.numel(), dtype=target)
    native(cast_kernel)[4](x, got, N=1 << 12)
    want = x.to(target)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got[~got.isnan()].view(torch.uint8), want[~want.isnan()].view(torch.uint8))


@pytest.mark.parametrize("source", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_casts_to_float_of_every_code(source: torch.dtype) -> None:
    bits = 8 * source.itemsize
    x = (
        torch.arange(1 << bits)
        .to(torch.uint8 if bits == 8 else torch.int32)
        .to(torch.uint8 if bits == 8 else torch.int16)
    )
    got = torch.zeros(1 << bits)
    native(cast_kernel)[1 << bits - 8](x.view(source), got, N=256)
    want = x.view(source).float()
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(), want.nan_to_num())


@triton.jit
def bfloat_kernel(x, y, s, m, c, N: tl.constexpr):
    at = tl.arange(0, N)
    a, b = tl.load(x + at), tl.load(y + at)
    tl.store(s + at, a + b)
    tl.store(m + at, a * b)
    tl.store(c + at, tl.where(a > b, a, -b))


def test_bfloat16_arithmetic_rounds_once() -> None:
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(SIZE, generator=generator).bfloat16() for _ in range(2))
    s, m, c = (torch.zeros(SIZE, dtype=torch.bfloat16) for _ in range(3))
    native(bfloat_kernel)[1](x, y, s, m, c, N=SIZE)
    assert torch.equal(s, x + y)
    assert torch.equal(m, x * y)
    assert torch.equal(c, torch.where(x > y, x, -y))


@triton.jit
def bfloat_constant_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    # LLVM spells both with seven digits, below the value; the pattern is that of 2**-127.
    least = tl.full((N,), 64, tl.int16).to(tl.bfloat16, bitcast=True)
    filled = tl.where(at < 8, tl.full((N,), 0.3, tl.bfloat16), least)
    tl.store(y + at, tl.where(tl.load(x + at) == 0, filled, tl.load(x + at)))


def test_constants_of_bfloat16_keep_their_bits() -> None:
    x, y = torch.zeros(16, dtype=torch.bfloat16), torch.empty(16, dtype=torch.bfloat16)
    native(bfloat_constant_kernel)[1](x, y, N=16)
    assert y.tolist() == torch.tensor([0.3] * 8 + [2.0**-127] * 8).bfloat16().tolist()


@triton.jit
def philox_kernel(y, seed, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.randint(seed, at))


def philox(counter: int, seed: int) -> int:
    """Philox4x32-10 (Salmon et al. 2011) of the counter (counter, 0, 0, 0); its first word."""
    mask = 0xFFFFFFFF
    c, k = [counter, 0, 0, 0], [seed & mask, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c[0]


def test_philox() -> None:
    y = torch.zeros(256, dtype=torch.int32)
    native(philox_kernel)[1](y, 1234, N=256)
    assert [word & 0xFFFFFFFF for word in y.tolist()] == [philox(at, 1234) for at in range(256)]


@triton.jit
def libdevice_kernel(x, y, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.store(y + tl.arange(0, N), tl.sin(v) + tl.erf(v))


def test_functions_of_the_device_library() -> None:
    x = torch.linspace(-3, 3, 256)
    y = torch.zeros(256)
    native(libdevice_kernel)[1](x, y, N=256)
    want = x.double().sin() + x.double().erf()
    # Two functions of the C library, each within one unit of the last place, and a rounding.
    assert (y - want).abs().max() <= 2 * 2**-23


@triton.jit
def assembly_kernel(x, N: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at)
    r = tl.inline_asm_elementwise("v_add_u32 $0, $1, 1", "=v,v", [v], dtype=tl.int32, is_pure=True, pack=1)
    tl.store(x + at, r)


def test_inline_assembly_is_an_error_with_its_line() -> None:
    with pytest.raises(UnsupportedError, match=r"'v_add_u32 \$0, \$1, 1' has no meaning .*test_language.py:\d+"):
        native(assembly_kernel)[1](torch.zeros(64, dtype=torch.int32), N=64)


@triton.jit
def print_kernel(x, N: tl.constexpr):
    tl.device_print("value", tl.load(x + tl.arange(0, N)))


def test_device_print(capsys: pytest.CaptureFixture[str]) -> None:
    native(print_kernel, threads=1)[2](torch.arange(64, dtype=torch.int32), N=64, num_warps=1)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"pid ({p}, 0, 0) idx ({i:2d}) value: {i}" for p in range(2) for i in range(64))


@triton.jit
def assert_kernel(x, N: tl.constexpr):
    tl.device_assert(tl.load(x + tl.arange(0, N)) > 0, "must be positive")


def test_device_assert_names_program_and_line() -> None:
    x = torch.ones(256, dtype=torch.int32)
    native(assert_kernel)[1](x, N=256, debug=True)
    x[100] = 0
    with pytest.raises(
        RuntimeError, match=r"assert_kernel, program \(0, 0, 0\), lane \d+: .*must be positive.*test_language"
    ):
        native(assert_kernel)[1](x, N=256, debug=True)


@triton.jit
def offset_kernel(x, row, stride):
    tl.store(x + row * stride * 0, 1)


def test_an_offset_beyond_32_bits_is_found_in_debug_mode() -> None:
    x = torch.zeros(1, dtype=torch.int32)
    native(offset_kernel)[1](x, 1 << 16, 1 << 16)
    with pytest.raises(RuntimeError, match=r"offset_kernel.*int32 overflow detected for operation mul.*test_language"):
        native(offset_kernel)[1](x, 1 << 16, 1 << 16, debug=True)


def test_triton_debug_makes_every_launch_one_in_debug_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, x = native(offset_kernel), torch.zeros(1, dtype=torch.int32)
    kernel[1](x, 1 << 16, 1 << 16)
    monkeypatch.setattr(triton.knobs.runtime, "debug", True)
    with pytest.raises(RuntimeError, match="int32 overflow"):
        kernel[1](x, 1 << 16, 1 << 16)


@triton.jit
def extremes_kernel(x, y, hi, lo, N: tl.constexpr):
    at = tl.arange(0, N)
    a, b = tl.load(x + at), tl.load(y + at)
    tl.store(hi + at, tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL))
    tl.store(lo + at, tl.minimum(a, b))


def test_nan_is_propagated_where_it_is_asked_for() -> None:
    nan = float("nan")
    x, y = torch.tensor([1.0, nan, 1.0, nan] * 16), torch.tensor([2.0, 2.0, nan, nan] * 16)
    hi, lo = torch.zeros(64), torch.zeros(64)
    native(extremes_kernel)[1](x, y, hi, lo, N=64)
    assert torch.equal(hi.isnan(), torch.tensor([False, True, True, True] * 16))
    assert lo[:3].tolist() == [1.0, 2.0, 1.0]
    assert lo[3].isnan()
