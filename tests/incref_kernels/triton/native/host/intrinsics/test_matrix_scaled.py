"""The scaled matrix instructions alone, and in the product that Triton makes of them."""

import re
from collections.abc import Callable
from fractions import Fraction

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat
from incref_kernels.triton.native.native import native

Run = Callable[..., Tensor]

# By the number of the format in an instruction.
NAMES = ["float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"]
SHAPES = [(16, 128), (32, 64)]


def fmt(kind: int) -> FloatFormat:
    found = FORMATS[NAMES[kind]]
    assert isinstance(found, FloatFormat)
    return found


def codes(kind: int, rows: int, columns: int, seed: int) -> Tensor:
    """Codes of finite values."""
    finite = [code for code, value in enumerate(fmt(kind).values) if np.isfinite(value)]
    chosen = torch.randint(len(finite), (rows, columns), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(finite)[chosen]


def held_k(kind: int, n: int, lane: int) -> list[int]:
    """The k of the 32 elements of a row that a lane holds: two runs of 16 in 8-bit formats, one of 32 in others."""
    group, groups = lane // n, 64 // n
    if fmt(kind).bits == 8:
        return [16 * group + e for e in range(16)] + [16 * (groups + group) + e for e in range(16)]
    return [32 * group + e for e in range(32)]


def packed(kind: int, n: int, rows: Tensor) -> Tensor:
    """Registers of the lanes, uint8 [64, bytes], of the rows of A or the columns of B, codes [N, K]."""
    bits = fmt(kind).bits
    lanes = []
    for lane in range(64):
        word = sum(int(code) << bits * e for e, code in enumerate(rows[lane % n, held_k(kind, n, lane)]))
        lanes.append(list(word.to_bytes(4 * bits, "little")))
    return torch.tensor(lanes, dtype=torch.uint8)


def run(
    run_lanes: Run,
    shape: tuple[int, int],
    kinds: tuple[int, int],
    a: Tensor,
    b: Tensor,
    c: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    places: tuple[int, int] = (0, 0),
) -> Tensor:
    """D [N, N]: of codes A [N, K] and, transposed, B [N, K], and scales [N, K / 32] of both; None for constants 0."""
    n, k = shape
    elements = n * n // 64
    rows = [[4 * (64 // n * (r // 4) + lane // n) + r % 4 for r in range(elements)] for lane in range(64)]
    parts = [packed(kinds[0], n, a), packed(kinds[1], n, b)]
    parts.append(torch.stack([c[rows[lane], lane % n].contiguous().view(torch.uint8) for lane in range(64)]))
    kind_of = [f"<{part.shape[1] // 4} x i32>" for part in parts[:2]] + [f"<{elements} x float>"]
    for scale, place in zip(scales, places, strict=True) if scales else ():
        # The other bytes of the register are of no account.
        words = torch.full((64, 4), 0xEE, dtype=torch.uint8)
        words[:, place] = torch.stack([scale[lane % n, lane // n] for lane in range(64)]).to(torch.uint8)
        parts.append(words)
        kind_of.append("i32")
    body, start = "", 0
    for name, kind, part in zip("abcst", kind_of, parts, strict=False):
        body += f"""
  %{name}.start = getelementptr i8, ptr addrspace(1) %in, i32 {start}
  %{name}.far = mul i32 %tid, {part.shape[1]}
  %{name}.at = getelementptr i8, ptr addrspace(1) %{name}.start, i32 %{name}.far
  %{name} = load {kind}, ptr addrspace(1) %{name}.at, align 1"""
        start += part.numel()
    ends = [f"i32 {place}, i32 {name if scales else 0}" for place, name in zip(places, ("%s", "%t"), strict=True)]
    suffix = ".".join(f"v{part.shape[1] // 4}i32" for part in parts[:2])
    taken = ", ".join(f"{kind} %{name}" for name, kind in zip("abc", kind_of, strict=False))
    body += f"""
  %d = call {kind_of[2]} @llvm.amdgcn.mfma.scale.f32.{n}x{n}x{k}.f8f6f4.{suffix}({taken},
    i32 {kinds[0]}, i32 {kinds[1]}, {", ".join(ends)})
  %y = bitcast {kind_of[2]} %d to <{elements} x i32>"""
    given = torch.cat([part.flatten() for part in parts]).view(torch.int32)
    got = run_lanes(body, given, arch="gfx950", words=elements).view(torch.float32).view(64, elements)
    d = torch.empty_like(c)
    for lane in range(64):
        d[rows[lane], lane % n] = got[lane]
    return d


def value(kind: int, codes: Tensor) -> np.ndarray:
    return np.array(fmt(kind).values)[codes.numpy()]


def power(codes: Tensor) -> np.ndarray:
    """Values of E8M0, one for each of 32 elements."""
    table = np.array([2.0 ** (code - 127) for code in range(255)] + [np.nan])
    return np.repeat(table[codes.numpy()], 32, axis=1)


def in_order(left: np.ndarray, right: np.ndarray, c: Tensor) -> Tensor:
    """Sum of float64 products, [N, K] each, k ascending, rounded to float32 after each."""
    acc = c.numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        for k in range(left.shape[1]):
            acc = (acc.astype(np.float64) + np.multiply.outer(left[:, k], right[:, k])).astype(np.float32)
    return torch.from_numpy(acc)


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        *((SHAPES[0], kinds) for kinds in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (0, 4), (4, 1), (2, 0), (3, 4)]),
        *((SHAPES[1], kinds) for kinds in [(0, 1), (2, 3), (4, 4), (1, 4)]),
    ],
)
def test_scaled_products_are_summed_in_order(run_lanes: Run, shape: tuple[int, int], kinds: tuple[int, int]) -> None:
    n, k = shape
    generator = torch.Generator().manual_seed(0)
    a, b = codes(kinds[0], n, k, 1), codes(kinds[1], n, k, 2)
    scales = tuple(torch.randint(110, 145, (n, k // 32), generator=generator) for _ in range(2))
    c = torch.randn(n, n, generator=generator)
    want = in_order(value(kinds[0], a) * power(scales[0]), value(kinds[1], b) * power(scales[1]), c)
    got = run(run_lanes, shape, kinds, a, b, c, scales, places=(kinds[1] % 4, 3 - kinds[0] % 4))
    assert torch.equal(got, want)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_lane_that_scales_is_the_one_that_a_gpu_was_seen_to_use(run_lanes: Run, shape: tuple[int, int]) -> None:
    """Of 8-bit formats the two runs of 16 that a lane holds lie in two blocks, whose scales two other lanes hold.

    Of Composable Kernel's scale_mapping_16x16x128.txt and scale_mapping_32x32x64.txt: what scales the first and the
    second half of the elements of the lanes 0, 16, 32 and 48, or 0 and 32.
    """
    n, k = shape
    groups = 64 // n
    seen = {16: [0, 32, 0, 32, 16, 48, 16, 48], 32: [0, 32, 0, 32]}[n]
    one = fmt(0).values.index(1.0)
    scales = (torch.arange(64).view(groups, n).T + 127, torch.full((n, groups), 127))
    # Row i has a 1 in one half of one lane, another one than its neighbours.
    a = torch.zeros(n, k, dtype=torch.int64)
    for i in range(n):
        group, half = divmod(i % len(seen), 2)
        a[i, held_k(0, n, n * group)[16 * half + i % 16]] = one
    d = run(run_lanes, shape, (0, 0), a, torch.full((n, k), one), torch.zeros(n, n), scales)
    assert d[:, 0].log2().tolist() == [i + seen[i % len(seen)] for i in range(n)]


def test_extreme_scales(run_lanes: Run) -> None:
    """Products of subnormal and of infinite size, each sum against the exact one, rounded once."""
    a, b = codes(0, 16, 128, 1), codes(1, 16, 128, 2)
    generator = torch.Generator().manual_seed(0)
    scales = tuple(torch.tensor([0, 1, 60, 200])[torch.randint(4, (16, 4), generator=generator)] for _ in range(2))
    # Tiny ones with tiny ones only: the rest would hide them.
    scales[0][:8] = 40
    scales[1][:8] = 7
    c = torch.randn(16, 16, generator=generator) * 2.0**-130
    got = run(run_lanes, (16, 128), (0, 1), a, b, c, scales)
    left, right = value(0, a) * power(scales[0]), value(1, b) * power(scales[1])
    for i, j in [(0, 0), (1, 3), (7, 7), (9, 9), (2, 12), (15, 15), (14, 4)]:
        acc = np.float32(c[i, j])
        for k in range(128):
            if np.isfinite(acc):
                acc = once(Fraction(float(acc)) + Fraction(left[i, k]) * Fraction(right[j, k]))
        assert got[i, j].item() == acc


def once(exact: Fraction) -> np.float32:
    """The nearest float32, of two the even one."""
    if exact == 0:
        return np.float32(0)
    size = abs(exact)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 25, -149)
    while size / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    rounded = round(exact / Fraction(2) ** exponent) * Fraction(2) ** exponent
    return (
        np.float32(float(rounded))
        if abs(rounded) < 1 << 128
        else np.float32(np.copysign(np.inf, float(exact > 0) - 0.5))
    )


def test_a_scale_that_is_nan_makes_its_block_nan(run_lanes: Run) -> None:
    a, b = torch.zeros(16, 128, dtype=torch.int64), codes(4, 16, 128, 2)
    scales = torch.full((16, 4), 127), torch.full((16, 4), 127)
    scales[0][3, 2] = 255
    d = run(run_lanes, (16, 128), (2, 4), a, b, torch.zeros(16, 16), scales)
    assert d[3].isnan().all()
    assert int(d.isnan().sum()) == 16


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("places", [(0, 0), (3, 1)])
def test_constant_zeros_mean_no_scales(run_lanes: Run, shape: tuple[int, int], places: tuple[int, int]) -> None:
    n, k = shape
    a, b, c = codes(0, n, k, 1), codes(4, n, k, 2), torch.randn(n, n, generator=torch.Generator().manual_seed(0))
    want = in_order(value(0, a), value(4, b), c)
    assert torch.equal(run(run_lanes, shape, (0, 4), a, b, c, None, places), want)
    # That are found to be 0 only when it runs, they are 2**-127.
    zeros = torch.zeros(n, k // 32, dtype=torch.int64)
    assert torch.equal(run(run_lanes, shape, (0, 4), a, b, c, (zeros, zeros), places), c)


_SELECTED = """
target triple = "amdgcn-amd-amdhsa"
declare <4 x float> @llvm.amdgcn.mfma.scale.f32.16x16x128.f8f6f4.v8i32.v8i32(<8 x i32>, <8 x i32>, <4 x float>,
  i32, i32, i32, i32, i32, i32)
define <4 x float> @f(<8 x i32> %a, <8 x i32> %b, <4 x float> %c, i32 %scale) {{
  %d = call <4 x float> @llvm.amdgcn.mfma.scale.f32.16x16x128.f8f6f4.v8i32.v8i32(<8 x i32> %a, <8 x i32> %b,
    <4 x float> %c, i32 0, i32 0, i32 {}, i32 {}, i32 {}, i32 {})
  ret <4 x float> %d
}}
"""


@pytest.mark.parametrize(
    ("operands", "is_scaled"),
    [((0, 0, 0, 0), False), ((3, 0, 1, 0), False), ((0, 0, 0, 1), True), ((0, "%scale", 0, 0), True)],
)
def test_llvm_emits_no_scales_for_constant_zeros(operands: tuple[object, ...], is_scaled: bool) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("amdgcn-amd-amdhsa")
    except RuntimeError:
        pytest.skip("llvmlite was built without AMD's GPUs")
    machine = target.create_target_machine(cpu="gfx950")
    code = machine.emit_assembly(llvm.parse_assembly(_SELECTED.format(*operands)))
    (emitted,) = re.findall(r"v_mfma\w+", code)
    assert emitted == ("v_mfma_scale_f32_16x16x128_f8f6f4" if is_scaled else "v_mfma_f32_16x16x128_f8f6f4")


def test_a_format_that_is_not_known_is_named(run_lanes: Run) -> None:
    body = """
  %v = insertelement <8 x i32> zeroinitializer, i32 %x, i32 0
  %d = call <4 x float> @llvm.amdgcn.mfma.scale.f32.16x16x128.f8f6f4.v8i32.v8i32(<8 x i32> %v, <8 x i32> %v,
    <4 x float> zeroinitializer, i32 5, i32 0, i32 0, i32 127, i32 0, i32 127)
  %f = extractelement <4 x float> %d, i32 0
  %y = bitcast float %f to i32"""
    with pytest.raises(UnsupportedError, match=r"of the formats \[5, 0\] is not known"):
        run_lanes(body, range(64), arch="gfx950")


@triton.jit
def product_kernel(
    a, a_scale, b, b_scale, c, S: tl.constexpr, K: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr
):
    LEFT_K: tl.constexpr = K // 2 if LEFT == "e2m1" else K
    RIGHT_K: tl.constexpr = K // 2 if RIGHT == "e2m1" else K
    rows, blocks = tl.arange(0, S), tl.arange(0, K // 32)
    x = tl.load(a + rows[:, None] * LEFT_K + tl.arange(0, LEFT_K)[None, :])
    y = tl.load(b + rows[None, :] * RIGHT_K + tl.arange(0, RIGHT_K)[:, None])
    s = tl.load(a_scale + rows[:, None] * (K // 32) + blocks[None, :])
    t = tl.load(b_scale + rows[:, None] * (K // 32) + blocks[None, :])
    tl.store(c + rows[:, None] * S + rows[None, :], tl.dot_scaled(x, s, LEFT, y, t, RIGHT))


@pytest.mark.parametrize("kinds", [("e4m3", "e4m3"), ("e5m2", "e5m2"), ("e2m1", "e2m1"), ("e4m3", "e2m1")])
def test_what_triton_makes_of_dot_scaled_for_gfx950(kinds: tuple[str, str]) -> None:
    """Triton puts elements and scales where the instruction wants them: another reading of the manual."""
    numbers = {"e4m3": 0, "e5m2": 1, "e2m1": 4}
    size, k = 64, 256
    generator = torch.Generator().manual_seed(0)
    sides, scales = [], []
    for seed, kind in enumerate(kinds):
        sides.append(codes(numbers[kind], size, k, seed))
        scales.append(torch.randint(124, 131, (size, k // 32), generator=generator))
    given = [
        (side[:, 0::2] | side[:, 1::2] << 4 if kind == "e2m1" else side).to(torch.uint8)
        for side, kind in zip(sides, kinds, strict=True)
    ]
    left, right = (
        value(numbers[kind], side) * power(scale) for kind, side, scale in zip(kinds, sides, scales, strict=True)
    )
    c = torch.full((size, size), float("nan"))
    native(product_kernel, arch="gfx950")[1](
        given[0], scales[0].to(torch.uint8), given[1], scales[1].to(torch.uint8), c, size, k, *kinds
    )
    assert torch.equal(c, in_order(left, right, torch.zeros(size, size)))
