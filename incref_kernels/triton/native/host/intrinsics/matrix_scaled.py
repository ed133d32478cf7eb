"""MFMA with scales: every 32 elements along k of a row of A, and of a column of B, share a power of two.

Where the parts lie (AMD CDNA 4 ISA, V_MFMA_SCALE_F32_16X16X128_F8F6F4 and _32X32X64_F8F6F4; drawn in AMD's "Matrix Core
Programming on AMD CDNA3 and CDNA4 architecture" and in Composable Kernel's test/mx_mfma_op), with N = 16 or 32 and
G = 64 / N groups of lanes: lane l is in group g = l div N and holds 32 elements of row (of B: column) l mod N, packed
from the lowest bit on. Element e has k = R * (G * (e div R) + g) + e mod R, with runs of R = 16 elements of 8-bit
formats and R = 32 of the narrower ones. C and D lie as without scales (see `host.intrinsics.matrix`).

Lane l holds the scale of k from 32 * g to 32 * g + 31 of its row, whoever holds these elements: one byte, E8M0, of a
register. That is what a GPU was seen to do (scale_mapping_16x16x128.txt in the same test).

Where both scales are the constant 0, LLVM emits the instruction without scales: the factors are 1, not 2**-127.

The order of summation is that without scales: acc = C; for k ascending acc = acc + (A[i, k] * a) * (B[k, j] * b), the
scaled product exact and the sum rounded to float32. It is computed in double and rounded twice, which gives the same:
products have at most 8 digits, and the sum of two floats of 24 digits, rounded to 2 * 24 + 1 or more and then to 24,
is rounded once (Figueroa, "When is double rounding innocuous?", 1995). Where the sum is a subnormal float, acc is a
multiple of the least one, so double holds the sum exactly or the product is too small to decide.
"""

import re
from collections.abc import Sequence

from incref.errors import UnsupportedError
from incref.formats.spec import FloatFormat
from incref.formats.table import FORMATS
from incref_kernels.triton.native.host.intrinsics.fp8 import table_of
from incref_kernels.triton.native.host.intrinsics.lowering import WaveOperation, constant
from incref_kernels.triton.native.host.intrinsics.matrix import PLACE_A, PLACE_B, Shape, product
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.values import Literal

__all__ = ["MFMA_SCALED"]

_NAME = re.compile(r"@llvm\.amdgcn\.mfma\.scale\.f32\.(16x16x128|32x32x64)\.f8f6f4\..+")
# By the number that an instruction gives an operand's format: CBSZ of A, BLGP of B.
_FORMATS = ("float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")
_A, _B, _C, _FORMAT_A, _FORMAT_B, _BYTE_A, _SCALE_A, _BYTE_B, _SCALE_B = range(9)
# Elements of A, and of B, that a lane holds, and that share a scale.
_HELD = 32


def _prepare(
    builder: LaneBuilder, inst: Instruction, names: Sequence[str], result: str
) -> Sequence[tuple[str, tuple[str | int, ...]]]:
    match = _NAME.fullmatch(inst.callee or "")
    kinds = [constant(inst, index) for index in (_FORMAT_A, _FORMAT_B)]
    if match is None or max(kinds) >= len(_FORMATS):
        raise UnsupportedError(f"the matrix instruction {inst.callee} of the formats {kinds} is not known")
    n, _, k = map(int, match[1].split("x"))
    left, right = (_FORMATS[kind] for kind in kinds)
    shape = Shape(n=n, k=k, result="f32", left=left, right=right, is_scaled=True)
    a, b, c, scale_a, scale_b = names
    calls = [
        _unpacked(builder, shape, a, scale_a, inst, is_left=True),
        _unpacked(builder, shape, b, scale_b, inst, is_left=False),
    ]
    function = builder.helper(f"@{shape.name}", product(shape))
    return [*calls, (function, (calls[0][1][2], calls[1][1][2], c, result))]


def _unpacked(
    builder: LaneBuilder, shape: Shape, name: str, scale: str, inst: Instruction, *, is_left: bool
) -> tuple[str, tuple[str, str, int]]:
    """The call that unpacks and scales an operand, and where to; the same place for the same operand."""
    fmt = FORMATS[shape.left if is_left else shape.right]
    assert isinstance(fmt, FloatFormat)
    held = inst.operands[_A if is_left else _B].type.size
    if held * 8 < _HELD * fmt.bits:
        raise UnsupportedError(f"{inst.callee} needs {_HELD} elements of {fmt.name} a lane, got {held} bytes")
    byte = constant(inst, _BYTE_A if is_left else _BYTE_B)
    factor = _ONE if _is_unscaled(inst) else _SCALE.format(n=shape.n, block=_HELD, shift=8 * byte)
    way = "unscaled" if _is_unscaled(inst) else f"scaled.{byte}"
    function = f"@{way}.{'a' if is_left else 'b'}.{shape.n}.{fmt.name}.{held}"
    key = f"{function}({name}, {scale})"
    if key not in builder.places:
        builder.places[key] = builder.reserve(shape.n * shape.k * 8)
    groups, elements = 64 // shape.n, shape.n * shape.n // 64
    text = _UNPACK.format(
        name=function,
        n=shape.n,
        groups=groups,
        run=16 if fmt.bits == 8 else 32,
        bits=fmt.bits,
        mask=(1 << fmt.bits) - 1,
        held=held,
        count=_HELD,
        table=table_of(builder, fmt),
        factor=factor,
        place=(PLACE_A if is_left else PLACE_B).format(k=shape.k, groups=groups, r=elements),
    )
    builder.helper(function, text)
    return function, (name, scale, builder.places[key])


def _is_unscaled(inst: Instruction) -> bool:
    return all(inst.operands[index].value == Literal("0") for index in (_SCALE_A, _SCALE_B))


_ONE = "  %factor = fadd double 1.0, 0.0"
_SCALE = """  %block = udiv i32 %kk, {block}
  %block.lane = mul i32 %block, {n}
  %scale.lane = add i32 %block.lane, %column
  %scale.at = getelementptr i32, ptr %scales, i32 %scale.lane
  %scale.word = load i32, ptr %scale.at, align 1
  %scale.moved = lshr i32 %scale.word, {shift}
  %code = and i32 %scale.moved, 255
  %code.wide = zext i32 %code to i64
  ; From the bias of E8M0, 127, to that of double.
  %biased = add i64 %code.wide, 896
  %raised = shl i64 %biased, 52
  %power = bitcast i64 %raised to double
  %is.nan = icmp eq i32 %code, 255
  %factor = select i1 %is.nan, double 0x7FF8000000000000, double %power"""

# The last byte of a lane stands in for the one after it, of which no bit is taken.
_UNPACK = """
define internal void {name}(ptr noalias %from, ptr noalias %scales, ptr noalias %to) noinline {{
entry:
  br label %lanes
lanes:
  %lane = phi i32 [0, %entry], [%next_lane, %lane_end]
  %column = urem i32 %lane, {n}
  %group = udiv i32 %lane, {n}
  %lane_start = mul i32 %lane, {held}
  %start.at = getelementptr i8, ptr %from, i32 %lane_start
  br label %element
element:
  %e = phi i32 [0, %lanes], [%next_e, %element]
  %run = udiv i32 %e, {run}
  %in.run = urem i32 %e, {run}
  %run.groups = mul i32 %run, {groups}
  %run.number = add i32 %run.groups, %group
  %run.start = mul i32 %run.number, {run}
  %kk = add i32 %run.start, %in.run
  %bit = mul i32 %e, {bits}
  %first.index = lshr i32 %bit, 3
  %inside = and i32 %bit, 7
  %after = add i32 %first.index, 1
  %is.last = icmp eq i32 %after, {held}
  %second.index = select i1 %is.last, i32 %first.index, i32 %after
  %first.at = getelementptr i8, ptr %start.at, i32 %first.index
  %second.at = getelementptr i8, ptr %start.at, i32 %second.index
  %first = load i8, ptr %first.at
  %second = load i8, ptr %second.at
  %first.wide = zext i8 %first to i32
  %second.wide = zext i8 %second to i32
  %second.moved = shl i32 %second.wide, 8
  %both = or i32 %first.wide, %second.moved
  %moved = lshr i32 %both, %inside
  %index = and i32 %moved, {mask}
  %value.at = getelementptr float, ptr {table}, i32 %index
  %single = load float, ptr %value.at
  %exact = fpext float %single to double
{factor}
  %value = fmul double %exact, %factor
{place}
  %target = getelementptr double, ptr %to, i32 %place
  store double %value, ptr %target
  %next_e = add i32 %e, 1
  %more_e = icmp ult i32 %next_e, {count}
  br i1 %more_e, label %element, label %lane_end
lane_end:
  %next_lane = add i32 %lane, 1
  %more_lanes = icmp ult i32 %next_lane, 64
  br i1 %more_lanes, label %lanes, label %exit
exit:
  ret void
}}
"""

MFMA_SCALED = WaveOperation(shown=(_A, _B, _C, _SCALE_A, _SCALE_B), prepare=_prepare)
