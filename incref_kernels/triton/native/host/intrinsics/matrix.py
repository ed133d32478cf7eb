"""MFMA: a wave multiplies two matrices of which each lane holds a part.

Where the parts lie (AMD Instinct MI300 ISA, section "Matrix Arithmetic Instructions"), for one block of N columns, N = 32
or 16, and G = 64 / N groups of lanes: lane l is in group g = l div N and holds
`A[l mod N, E * g + e]` and `B[E * g + e, l mod N]` for e < E, where E = K / G, and of C and D the elements
`[4 * (G * (r div 4) + g) + r mod 4, l mod N]`, r counting its registers (doubles: `[G * r + g, l mod N]`).

The order of summation is not published. Here it is: acc = C; for k ascending: acc = fma(A[i, k], B[k, j], acc), rounded
to nearest even in the type of D, subnormals kept. The products of 16-bit and 8-bit formats are exact in it. Integer
products are summed exactly and added to C modulo 2**32.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from incref.errors import UnsupportedError
from incref.formats.table import FORMATS
from incref_kernels.triton.native.host.intrinsics.lowering import Lowering, constant
from incref_kernels.triton.native.host.lanes import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["Shape", "mfma", "parse_shape"]

_NAME = re.compile(r"llvm\.amdgcn\.mfma\.(f32|f64|i32)\.(\d+)x\d+x(\d+)\.?(.+)")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an MFMA instruction multiplies.

    Attributes:
        n: rows of A and columns of B.
        k: columns of A and rows of B.
        result: `f32`, `f64` or `i32`.
        left: type of A's elements (`f16`, `bf16`, `f32`, `f64`, `i8`, `fp8`, `bf8`).
        right: type of B's elements.
    """

    n: int
    k: int
    result: str
    left: str
    right: str

    @property
    def name(self) -> str:
        """A name for the function."""
        return f"mfma.{self.result}.{self.n}x{self.n}x{self.k}.{self.left}.{self.right}"


_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "i8": 8, "fp8": 8, "bf8": 8}


def parse_shape(callee: str, operand_bytes: int, result_elements: int) -> Shape:
    """Read the shape from an instruction's name.

    Args:
        callee: the intrinsic's name.
        operand_bytes: size of what a lane holds of A.
        result_elements: how many elements of D a lane holds.

    Raises:
        UnsupportedError: for a name that isn't understood, or an instruction that multiplies several blocks.
    """
    match = _NAME.fullmatch(callee)
    kind = match[4].removesuffix(".1k").replace("xf32", "f32") if match else ""
    left, _, right = kind.partition(".")
    if match is None or left not in _BITS or (right or left) not in _BITS:
        raise UnsupportedError(f"the matrix instruction {callee} is not known")
    n = int(match[2])
    k = operand_bytes * 8 // _BITS[left] * 64 // n
    if n not in {16, 32} or k != int(match[3]) or result_elements != n * n // 64:
        raise UnsupportedError(f"{callee} multiplies several blocks at once, which is not supported")
    return Shape(n=n, k=k, result=match[1], left=left, right=right or left)


def mfma(arch: str) -> Lowering:
    """Lower the dense instructions as the GPU `arch` has them."""

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        a, b, c, *options = inst.operands
        assert inst.callee is not None
        if any(constant(inst, 3 + index) for index in range(len(options))):
            raise UnsupportedError(f"{inst.callee} with a broadcast or a negation is not supported")
        elements = inst.type.size // (8 if ".f64." in inst.callee else 4)
        shape = parse_shape(inst.callee[1:], a.type.size, elements)
        function = builder.helper(f"@{shape.name}", _function(builder, shape, arch))
        *_, result = builder.exchange(shape.name, [a, b, c], last=function, result=inst.type)
        return builder.peek(result, inst.type, "%lane")

    return lower


def _function(builder: LaneBuilder, shape: Shape, arch: str) -> str:
    """Write the multiplication of one wave; arguments: the lanes' A, B, C and D, one lane after the other."""
    work = "double" if shape.result == "f64" else "float"
    decoded_a, decode_left = _decoder(builder, shape.left, arch)
    decoded_b, decode_right = (decoded_a, decode_left) if shape.left == shape.right else _decoder(builder, shape.right, arch)
    per_lane = shape.k * shape.n // 64
    row = f"<{shape.n} x {work}>"
    held = {"f32": "float", "f64": "double", "i32": "i32"}[shape.result]
    return _TEMPLATE.format(
        name=shape.name,
        n=shape.n,
        k=shape.k,
        e=per_lane,
        r=shape.n * shape.n // 64,
        groups=64 // shape.n,
        work=work,
        row=row,
        held=held,
        held_row=f"<{shape.n} x {held}>",
        row_bytes=shape.n * (8 if work == "double" else 4),
        stored_a=decoded_a,
        stored_b=decoded_b,
        decode_a=decode_left("%raw_a", "%value_a"),
        decode_b=decode_right("%raw_b", "%value_b"),
        place=(_PLACE_F64 if shape.result == "f64" else _PLACE).format(groups=64 // shape.n),
        start=_START[shape.result].format(row=row, held=held, n=shape.n),
        finish=_FINISH[shape.result].format(row=row, n=shape.n),
        fma=f"@llvm.fma.v{shape.n}f{64 if work == 'double' else 32}",
    )


_Decode = Callable[[str, str], str]


def _decoder(builder: LaneBuilder, kind: str, arch: str) -> tuple[str, _Decode]:
    """How an element is stored, and the text that decodes it: exactly, into the type that is summed in."""
    if kind in {"f32", "f64"}:
        stored = "float" if kind == "f32" else "double"
        return stored, lambda raw, value: f"{value} = select i1 true, {stored} {raw}, {stored} zeroinitializer"
    if kind == "f16":
        return "half", lambda raw, value: f"{value} = fpext half {raw} to float"
    if kind == "bf16":
        return "bfloat", lambda raw, value: f"{value} = fpext bfloat {raw} to float"
    if kind == "i8":
        return "i8", lambda raw, value: f"{value} = sitofp i8 {raw} to float"
    table = _table(builder, kind, arch)

    def look_up(raw: str, value: str) -> str:
        return (
            f"{value}.index = zext i8 {raw} to i64\n"
            f"  {value}.at = getelementptr float, ptr {table}, i64 {value}.index\n"
            f"  {value} = load float, ptr {value}.at"
        )

    return "i8", look_up


def _table(builder: LaneBuilder, kind: str, arch: str) -> str:
    """The values of an FP8 format as a constant: OCP's on gfx950, the `fnuz` ones before."""
    suffix = "fn" if arch == "gfx950" else "fnuz"
    format_name = {"fp8": f"float8_e4m3{suffix}", "bf8": "float8_e5m2" + ("" if arch == "gfx950" else "fnuz")}[kind]
    words = ", ".join(
        f"i32 {int.from_bytes(struct.pack('<f', value), 'little')}" for value in FORMATS[format_name].values
    )
    name = f"@values.{format_name}"
    return builder.helper(name, f"{name} = private unnamed_addr constant [256 x i32] [{words}]")


# The row that lane group %group holds in register %r.
_PLACE = """  %r_high = lshr i32 %r, 2
  %r_low = and i32 %r, 3
  %r_scaled = mul i32 %r_high, {groups}
  %r_group = add i32 %r_scaled, %group
  %r_four = shl i32 %r_group, 2
  %i = or i32 %r_four, %r_low"""
_PLACE_F64 = """  %r_scaled = mul i32 %r, {groups}
  %i = add i32 %r_scaled, %group"""
_COPY = "  %start = select i1 true, {row} %held, {row} zeroinitializer"
_START = {"f32": _COPY, "f64": _COPY, "i32": "  %start = select i1 true, {row} zeroinitializer, {row} zeroinitializer"}
_DONE = "  %out = select i1 true, {row} %sum, {row} zeroinitializer"
_FINISH = {
    "f32": _DONE,
    "f64": _DONE,
    "i32": "  %whole = fptosi {row} %sum to <{n} x i32>\n  %out = add <{n} x i32> %held, %whole",
}

_TEMPLATE = """
define internal void @{name}(ptr %a, ptr %b, ptr %c, ptr %d) noinline {{
entry:
  %left = alloca [{n} x [{k} x {work}]], align 64
  %right = alloca [{k} x [{n} x {work}]], align 64
  br label %unpack
unpack:
  %lane = phi i32 [0, %entry], [%next_lane, %unpack_end]
  %column = urem i32 %lane, {n}
  %unpack_group = udiv i32 %lane, {n}
  %lane_start = mul i32 %lane, {e}
  %k_start = mul i32 %unpack_group, {e}
  br label %element
element:
  %e = phi i32 [0, %unpack], [%next_e, %element]
  %index = add i32 %lane_start, %e
  %kk = add i32 %k_start, %e
  %at_a = getelementptr {stored_a}, ptr %a, i32 %index
  %at_b = getelementptr {stored_b}, ptr %b, i32 %index
  %raw_a = load {stored_a}, ptr %at_a, align 1
  %raw_b = load {stored_b}, ptr %at_b, align 1
  {decode_a}
  {decode_b}
  %to_a = getelementptr [{k} x {work}], ptr %left, i32 %column, i32 %kk
  %to_b = getelementptr [{n} x {work}], ptr %right, i32 %kk, i32 %column
  store {work} %value_a, ptr %to_a
  store {work} %value_b, ptr %to_b
  %next_e = add i32 %e, 1
  %more_e = icmp ult i32 %next_e, {e}
  br i1 %more_e, label %element, label %unpack_end
unpack_end:
  %next_lane = add i32 %lane, 1
  %more_lanes = icmp ult i32 %next_lane, 64
  br i1 %more_lanes, label %unpack, label %rows
rows:
  %register = phi i32 [0, %unpack_end], [%next_register, %row_end]
  %r = udiv i32 %register, {groups}
  %group = urem i32 %register, {groups}
{place}
  %held_start = mul i32 %group, {n}
  br label %gather
gather:
  %gj = phi i32 [0, %rows], [%next_gj, %gather]
  %gathered = phi {held_row} [zeroinitializer, %rows], [%more_gathered, %gather]
  %g_lane = add i32 %held_start, %gj
  %g_index = mul i32 %g_lane, {r}
  %g_place = add i32 %g_index, %r
  %g_at = getelementptr {held}, ptr %c, i32 %g_place
  %g_value = load {held}, ptr %g_at, align 1
  %more_gathered = insertelement {held_row} %gathered, {held} %g_value, i32 %gj
  %next_gj = add i32 %gj, 1
  %more_gj = icmp ult i32 %next_gj, {n}
  br i1 %more_gj, label %gather, label %multiply
multiply:
  %held = select i1 true, {held_row} %more_gathered, {held_row} zeroinitializer
{start}
  br label %step
step:
  %kn = phi i32 [0, %multiply], [%next_k, %step]
  %acc = phi {row} [%start, %multiply], [%sum, %step]
  %x_at = getelementptr [{k} x {work}], ptr %left, i32 %i, i32 %kn
  %x = load {work}, ptr %x_at
  %x_one = insertelement {row} poison, {work} %x, i32 0
  %x_all = shufflevector {row} %x_one, {row} poison, <{n} x i32> zeroinitializer
  %y_at = getelementptr [{n} x {work}], ptr %right, i32 %kn
  %y = load {row}, ptr %y_at, align 64
  %sum = call {row} {fma}({row} %x_all, {row} %y, {row} %acc)
  %next_k = add i32 %kn, 1
  %more_k = icmp ult i32 %next_k, {k}
  br i1 %more_k, label %step, label %finish
finish:
{finish}
  br label %scatter
scatter:
  %sj = phi i32 [0, %finish], [%next_sj, %scatter]
  %s_value = extractelement {held_row} %out, i32 %sj
  %s_lane = add i32 %held_start, %sj
  %s_index = mul i32 %s_lane, {r}
  %s_place = add i32 %s_index, %r
  %s_at = getelementptr {held}, ptr %d, i32 %s_place
  store {held} %s_value, ptr %s_at, align 1
  %next_sj = add i32 %sj, 1
  %more_sj = icmp ult i32 %next_sj, {n}
  br i1 %more_sj, label %scatter, label %row_end
row_end:
  %next_register = add i32 %register, 1
  %more_rows = icmp ult i32 %next_register, {n}
  br i1 %more_rows, label %rows, label %exit
exit:
  ret void
}}
"""
