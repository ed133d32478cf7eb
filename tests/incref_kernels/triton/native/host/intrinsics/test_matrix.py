"""Each matrix instruction alone, against a product in Python on the fragments that the manual gives."""

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.matrix import parse_shape

Run = Callable[..., Tensor]

# How LLVM writes what a lane holds, by type: an element, and what the register is called for so many of them.
_ELEMENT = {"f16": "half", "bf16": "bfloat", "f32": "float", "xf32": "float", "f64": "double"}
_DTYPE = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "xf32": torch.float32,
    "f64": torch.float64,
    "i8": torch.int8,
    "fp8": torch.float8_e4m3fnuz,
    "bf8": torch.float8_e5m2fnuz,
    "ocp.fp8": torch.float8_e4m3fn,
    "ocp.bf8": torch.float8_e5m2,
}
_RESULT = {"f32": torch.float32, "f64": torch.float64, "i32": torch.int32}
_LLVM = {"f32": "float", "f64": "double", "i32": "i32"}

# AMD Instinct MI100, MI200, MI300 and CDNA 4 ISA: those of one block.
NAMES = [
    "f32.32x32x2f32",
    "f32.16x16x4f32",
    "f32.32x32x8f16",
    "f32.16x16x16f16",
    "f32.32x32x4bf16",
    "f32.16x16x8bf16",
    "f32.32x32x8bf16.1k",
    "f32.16x16x16bf16.1k",
    "i32.32x32x8i8",
    "i32.16x16x16i8",
    "i32.32x32x16.i8",
    "i32.16x16x32.i8",
    "f32.32x32x4.xf32",
    "f32.16x16x8.xf32",
    "f64.16x16x4f64",
    *(f"f32.{shape}.{a}.{b}" for shape in ("32x32x16", "16x16x32") for a in ("fp8", "bf8") for b in ("fp8", "bf8")),
    "f32.32x32x16.f16",
    "f32.16x16x32.f16",
    "f32.32x32x16.bf16",
    "f32.16x16x32.bf16",
    "i32.32x32x32.i8",
    "i32.16x16x64.i8",
]


class Instruction:
    """A matrix instruction, taken apart by its name."""

    def __init__(self, name: str) -> None:
        match = re.fullmatch(r"(\w+)\.(\d+)x\d+x(\d+)\.?(\w+)\.?(fp8|bf8)?(\.1k)?", name)
        assert match is not None
        self.name = name
        self.result, self.n, self.k = match[1], int(match[2]), int(match[3])
        self.left, self.right = match[4], match[5] or match[4]
        self.held = self.k * self.n // 64
        self.elements = self.n * self.n // 64

    def register(self, kind: str) -> str:
        """The type of what a lane holds of A or B."""
        bits = 8 * self.held
        # The older ones take bfloat16 as integers.
        if kind == "bf16" and "x16.bf16" not in self.name and "x32.bf16" not in self.name:
            return f"<{self.held} x i16>"
        if kind in _ELEMENT:
            return _ELEMENT[kind] if self.held == 1 else f"<{self.held} x {_ELEMENT[kind]}>"
        return f"i{bits}" if bits <= 64 else f"<{bits // 32} x i32>"

    def rows(self, lane: int) -> list[int]:
        """The rows of C and D that a lane holds."""
        groups, group = 64 // self.n, lane // self.n
        if self.result == "f64":
            return [groups * r + group for r in range(self.elements)]
        return [4 * (groups * (r // 4) + group) + r % 4 for r in range(self.elements)]


def run(run_lanes: Run, inst: Instruction, a: Tensor, b: Tensor, c: Tensor, arch: str = "gfx942") -> Tensor:
    """D, of what the lanes hold of A, B and C."""
    lanes = range(64)
    own = [range(inst.held * (lane // inst.n), inst.held * (lane // inst.n) + inst.held) for lane in lanes]
    parts = [
        torch.stack([a[lane % inst.n, list(own[lane])].view(torch.uint8) for lane in lanes]),
        torch.stack([b[list(own[lane]), lane % inst.n].contiguous().view(torch.uint8) for lane in lanes]),
        torch.stack([c[inst.rows(lane), lane % inst.n].contiguous().view(torch.uint8) for lane in lanes]),
    ]
    kinds = [inst.register(inst.left), inst.register(inst.right), f"<{inst.elements} x {_LLVM[inst.result]}>"]
    words = inst.elements * c.element_size() // 4
    body, start = "", 0
    for name, kind, part in zip("abc", kinds, parts, strict=True):
        body += f"""
  %{name}.start = getelementptr i8, ptr addrspace(1) %in, i32 {start}
  %{name}.far = mul i32 %tid, {part.shape[1]}
  %{name}.at = getelementptr i8, ptr addrspace(1) %{name}.start, i32 %{name}.far
  %{name} = load {kind}, ptr addrspace(1) %{name}.at, align 1"""
        start += part.numel()
    taken = ", ".join(f"{kind} %{name}" for name, kind in zip("abc", kinds, strict=True))
    body += f"""
  %d = call {kinds[2]} @llvm.amdgcn.mfma.{inst.name}({taken}, i32 0, i32 0, i32 0)
  %y = bitcast {kinds[2]} %d to <{words} x i32>"""
    given = torch.cat([part.flatten() for part in parts]).view(torch.int32)
    got = run_lanes(body, given, arch=arch, words=words).view(c.dtype).view(64, inst.elements)
    d = torch.empty_like(c)
    for lane in lanes:
        d[inst.rows(lane), lane % inst.n] = got[lane]
    return d


def in_order(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Fuse every product with the sum so far, k ascending, rounded to the type of `c` once.

    For float32 in double: of products that float32 holds, 24 digits and 24 digits are rounded to 53 and to 24.
    """
    if c.dtype == torch.float64:
        exact = [[[Fraction(float(v)) for v in row] for row in matrix] for matrix in (a, b, c)]
        left, right, acc = exact
        for k in range(a.shape[1]):
            acc = [
                [Fraction(float(acc[i][j] + left[i][k] * right[k][j])) for j in range(len(acc))]
                for i in range(len(acc))
            ]
        return torch.tensor([[float(v) for v in row] for row in acc], dtype=torch.float64)
    acc = c.numpy()
    left, right = a.double().numpy(), b.double().numpy()
    for k in range(a.shape[1]):
        acc = (acc.astype(np.float64) + np.multiply.outer(left[:, k], right[k])).astype(np.float32)
    return torch.from_numpy(acc)


def draw(inst: Instruction, kind: str, rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "i8":
        return torch.randint(-128, 128, (rows, columns), generator=generator).to(torch.int8)
    values = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    if inst.result == "f64":
        return values
    if kind in {"f32", "xf32"}:
        # 11 digits: products are of 22.
        return (values.float().view(torch.int32) & (-1 << 13)).view(torch.float32)
    return values.to(_DTYPE[kind])


# The 8-bit floats of gfx950 are OCP's.
@pytest.mark.parametrize(
    ("name", "arch"),
    [*((name, "gfx942") for name in NAMES), ("f32.16x16x32.fp8.bf8", "gfx950"), ("f32.32x32x16.bf8.fp8", "gfx950")],
)
def test_the_product_is_summed_in_order(run_lanes: Run, name: str, arch: str) -> None:
    inst = Instruction(name)
    kinds = [inst.left, inst.right]
    if arch == "gfx950":
        kinds = [f"ocp.{kind}" for kind in kinds]
    a, b = draw(inst, kinds[0], inst.n, inst.k, 1), draw(inst, kinds[1], inst.k, inst.n, 2)
    generator = torch.Generator().manual_seed(3)
    if inst.result == "i32":
        c = torch.randint(-(1 << 31), 1 << 31, (inst.n, inst.n), generator=generator).to(torch.int32)
        want = (a.long() @ b.long() + c).to(torch.int32)
    else:
        c = torch.randn(inst.n, inst.n, generator=generator, dtype=_RESULT[inst.result])
        want = in_order(a, b, c)
    got = run(run_lanes, inst, a, b, c, arch)
    assert torch.equal(got, want)


@pytest.mark.parametrize("name", ["f32.32x32x4.xf32", "f32.16x16x8.xf32"])
def test_xf32_drops_13_bits(run_lanes: Run, name: str) -> None:
    inst = Instruction(name)
    generator = torch.Generator().manual_seed(4)
    a = torch.randn(inst.n, inst.k, generator=generator)
    b = torch.randn(inst.k, inst.n, generator=generator)
    # The largest below 2, a subnormal, a NaN whose bits are all dropped, one that stays, Inf.
    a[0, :5] = torch.tensor([0x3FFFFFFF, 0x7FFF, 0, 0, 0], dtype=torch.int32)[: inst.k].view(torch.float32)
    a[1, 0], a[2, 0], a[3, 0] = torch.tensor([0x7F800001, 0x7FC00000, 0x7F800000], dtype=torch.int32).view(
        torch.float32
    )
    cut = [(side.view(torch.int32) & (-1 << 13)).view(torch.float32) for side in (a, b)]
    c = torch.randn(inst.n, inst.n, generator=generator)
    want = in_order(cut[0], cut[1], c)
    assert torch.equal(run(run_lanes, inst, a, b, c).nan_to_num(nan=7.0), want.nan_to_num(nan=7.0))
    assert want[1].isinf().all()
    assert want[2].isnan().all()


def test_special_values_and_subnormals_are_kept(run_lanes: Run) -> None:
    inst = Instruction("f32.16x16x16f16")
    a, b, c = torch.zeros(16, 16).half(), torch.eye(16).half(), torch.zeros(16, 16)
    a[0, 0], a[1, 1], a[2, 2], a[3, 3] = 2.0**-24, -(2.0**-24), float("inf"), float("nan")
    c[4] = 2.0**-149
    c[5] = -0.0
    got = run(run_lanes, inst, a, b, c)
    assert got[0, 0] == 2.0**-24
    assert got[1, 1] == -(2.0**-24)
    # Inf times the zeros of the other columns is NaN.
    assert got[2, 2] == float("inf")
    assert got[2].isnan().sum() == 15
    assert got[3].isnan().all()
    assert torch.equal(got[4], c[4])
    # -0 + 0 is 0.
    assert not got[5].signbit().any()


@pytest.mark.parametrize("name", ["f32.32x32x1f32", "f32.16x16x1f32", "f32.4x4x1f32", "f32.32x32x4f16", "i32.4x4x4i8"])
def test_several_blocks_are_refused(name: str) -> None:
    kind, held, elements = {
        "f32.32x32x1f32": ("f32", 4, 32),
        "f32.16x16x1f32": ("f32", 4, 16),
        "f32.4x4x1f32": ("f32", 4, 4),
        "f32.32x32x4f16": ("f16", 8, 32),
        "i32.4x4x4i8": ("i8", 4, 4),
    }[name]
    assert name.endswith(kind)
    with pytest.raises(UnsupportedError, match=f"{name} multiplies several blocks at once"):
        parse_shape(f"llvm.amdgcn.mfma.{name}", held, elements)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="mystery is not known"):
        parse_shape("llvm.amdgcn.mfma.f32.16x16x16.mystery", 8, 4)


@pytest.mark.parametrize("flags", ["i32 1, i32 0, i32 0", "i32 0, i32 1, i32 0", "i32 0, i32 0, i32 1"])
def test_a_broadcast_is_refused(run_lanes: Run, flags: str) -> None:
    body = f"""
  %v = bitcast i32 %x to float
  %d = call <4 x float> @llvm.amdgcn.mfma.f32.16x16x4f32(float %v, float %v, <4 x float> zeroinitializer, {flags})
  %f = extractelement <4 x float> %d, i32 0
  %y = bitcast float %f to i32"""
    with pytest.raises(UnsupportedError, match="with a broadcast or a negation is not supported"):
        run_lanes(body, range(64))
