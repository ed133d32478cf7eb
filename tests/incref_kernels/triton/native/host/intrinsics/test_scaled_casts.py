"""gfx950's conversions of 8-bit floats with a scale: every code, and every 16-bit float, against the oracle."""

import math
import struct
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from incref.formats.modes import Overflow
from incref.formats.spec import FloatFormat
from incref.formats.table import FORMATS
from incref.ops.decode import decode
from incref.ops.encode import encode

Run = Callable[..., Tensor]

FORMAT = {"fp8": "float8_e4m3fn", "bf8": "float8_e5m2"}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LLVM = {"f32": "float", "f16": "half", "bf16": "bfloat"}
TO_WIDE = [
    "llvm.amdgcn.cvt.scalef32.pk.f32.fp8", "llvm.amdgcn.cvt.scalef32.pk.f32.bf8",
    "llvm.amdgcn.cvt.scalef32.pk.f16.fp8", "llvm.amdgcn.cvt.scalef32.pk.f16.bf8",
    "llvm.amdgcn.cvt.scalef32.pk.bf16.fp8", "llvm.amdgcn.cvt.scalef32.pk.bf16.bf8",
]  # fmt: skip
TO_NARROW = [
    "llvm.amdgcn.cvt.scalef32.pk.fp8.f32", "llvm.amdgcn.cvt.scalef32.pk.bf8.f32",
    "llvm.amdgcn.cvt.scalef32.pk.fp8.f16", "llvm.amdgcn.cvt.scalef32.pk.bf8.f16",
    "llvm.amdgcn.cvt.scalef32.pk.fp8.bf16", "llvm.amdgcn.cvt.scalef32.pk.bf8.bf16",
]  # fmt: skip
# The scale's bits, and the power of two that it stands for: only the exponent counts.
SCALES = {0x3F800000: 0, 0x3FFFFFFF: 0, 0x3E000000: -3, 0xC1000001: 3, 0x00000000: -127, 0x7F000000: 127}


def literal(bits: int) -> str:
    """A float constant, as LLVM writes it: the bits of the double."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', struct.unpack('<f', struct.pack('<I', bits))[0]))[0]:016X}"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", TO_WIDE)
def test_every_code_becomes_its_value_times_the_scale(run_lanes: Run, name: str, scale: int) -> None:
    wide, narrow = name.split(".")[-2:]
    llvm, dtype = LLVM[wide], DTYPES[wide]
    words = 4 if wide == "f32" else 2
    body = f"""
  %p0 = call <2 x {llvm}> @{name}(i32 %x, float {literal(scale)}, i1 false)
  %p1 = call <2 x {llvm}> @{name}(i32 %x, float {literal(scale)}, i1 true)
  %all = shufflevector <2 x {llvm}> %p0, <2 x {llvm}> %p1, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  %y = bitcast <4 x {llvm}> %all to <{words} x i32>"""
    codes = torch.arange(256, dtype=torch.uint8)
    got = run_lanes(body, codes.view(torch.int32), words=words, arch="gfx950").view(dtype)
    # Exact in double, rounded once: PyTorch's own cast from double to 16 bits goes by way of float, which holds these.
    want = (decode(codes, FORMAT[narrow]).double() * 2.0 ** SCALES[scale]).float().to(dtype)
    assert torch.equal(got.isnan(), want.isnan())
    kept = ~want.isnan()
    bits = torch.int32 if wide == "f32" else torch.int16
    assert torch.equal(got.view(bits)[kept], want.view(bits)[kept])


@pytest.mark.parametrize("name", TO_WIDE)
def test_a_scale_that_is_no_power_of_two_gives_nan(run_lanes: Run, name: str) -> None:
    llvm = LLVM[name.split(".")[-2]]
    body = f"""
  %p = call <2 x {llvm}> @{name}(i32 %x, float 0x7FF0000000000000, i1 false)
  %first = extractelement <2 x {llvm}> %p, i32 0
  %number = fcmp ord {llvm} %first, %first
  %y = zext i1 %number to i32"""
    assert run_lanes(body, range(64), arch="gfx950").tolist() == [0] * 64


def narrow_body(name: str, scale: int) -> str:
    """Two 16-bit floats, or one float and its opposite, become the upper half of a pair whose lower is 1, 2."""
    kind = name.rpartition(".")[2]
    old = "<2 x i16> <i16 513, i16 -1>"
    if kind == "f32":
        given = "float %a, float %b"
        taken = "%a = bitcast i32 %x to float\n  %b = fneg float %a"
    else:
        given = f"<2 x {LLVM[kind]}> %v"
        taken = f"%v = bitcast i32 %x to <2 x {LLVM[kind]}>"
    return f"""
  {taken}
  %p = call <2 x i16> @{name}({old}, {given}, float {literal(scale)}, i1 true)
  %y = bitcast <2 x i16> %p to i32"""


def expected(values: Tensor, narrow: str, power: int) -> Tensor:
    """The values over the power of two, encoded from double, which holds that."""
    return encode(values.double() * 2.0**-power, FORMAT[narrow], overflow=Overflow.SATURATE)


def same_codes(got: Tensor, want: Tensor, narrow: str) -> bool:
    """One NaN is as good as another."""
    fmt = FORMATS[FORMAT[narrow]]
    assert isinstance(fmt, FloatFormat)
    nans = torch.tensor([math.isnan(value) for value in fmt.values])
    return torch.equal(nans[got.long()], nans[want.long()]) and torch.equal(
        got[~nans[got.long()]], want[~nans[want.long()]]
    )


@pytest.mark.parametrize("scale", [0x3F800000, 0x3E7FFFFF, 0xC1000000])
@pytest.mark.parametrize("name", [name for name in TO_NARROW if not name.endswith(".f32")])
def test_every_16_bit_float_is_encoded(run_lanes: Run, name: str, scale: int) -> None:
    *_, narrow, wide = name.split(".")
    values = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    got = run_lanes(narrow_body(name, scale), values.view(torch.int32), waves=512, arch="gfx950").view(torch.uint8)
    pairs = got.view(-1, 4)
    assert pairs[:, :2].unique(dim=0).tolist() == [[1, 2]]
    power = (scale >> 23 & 255) - 127
    assert same_codes(pairs[:, 2:].flatten(), expected(values.view(DTYPES[wide]), narrow, power), narrow)


def near_ties(narrow: str) -> Tensor:
    """Every number of the format, halfway to the next, and the floats on both sides; larger ones, and special ones."""
    fmt = FORMATS[FORMAT[narrow]]
    assert isinstance(fmt, FloatFormat)
    numbers = sorted({Fraction(value) for value in fmt.values if math.isfinite(value) and value >= 0})
    points = [*numbers, *((a + b) / 2 for a, b in zip(numbers, numbers[1:], strict=False))]
    exact = torch.tensor([float(point) for point in points])
    below, above = (torch.nextafter(exact, torch.tensor(end)) for end in (0.0, math.inf))
    edges = torch.tensor([1e30, 3.4e38, math.inf, math.nan, 1e-45, 1e-38, fmt.qmax * 1.06, fmt.qmax * 1.2])
    found = torch.cat([exact, below, above, edges])
    return torch.cat([found, found.new_zeros(-len(found) % 64)])


@pytest.mark.parametrize("scale", [0x3F800000, 0xBF800001])
@pytest.mark.parametrize("name", [name for name in TO_NARROW if name.endswith(".f32")])
def test_floats_near_every_tie_are_encoded(run_lanes: Run, name: str, scale: int) -> None:
    narrow = name.split(".")[-2]
    x = near_ties(narrow)
    got = run_lanes(narrow_body(name, scale), x.view(torch.int32), waves=len(x) // 64, arch="gfx950").view(torch.uint8)
    pairs = got.view(-1, 4)
    assert pairs[:, :2].unique(dim=0).tolist() == [[1, 2]]
    assert same_codes(pairs[:, 2], expected(x, narrow, 0), narrow)
    assert same_codes(pairs[:, 3], expected(-x, narrow, 0), narrow)
