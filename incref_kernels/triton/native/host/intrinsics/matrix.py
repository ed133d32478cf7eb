"""MFMA: a wave multiplies two matrices of which each lane holds a part.

Where the parts lie (AMD Instinct MI300 ISA, section "Matrix Arithmetic Instructions"), for one block of N columns,
N = 32 or 16, and G = 64 / N groups of lanes: lane l is in group g = l div N and holds
`A[l mod N, E * g + e]` and `B[E * g + e, l mod N]` for e < E, where E = K / G, and of C and D the elements
`[4 * (G * (r div 4) + g) + r mod 4, l mod N]`, r counting its registers (doubles: `[G * r + g, l mod N]`).

The order of summation is not published. Here it is: acc = C; for k ascending: acc = fma(A[i, k], B[k, j], acc), rounded
to nearest even in the type of D, subnormals kept. The products of 16-bit and 8-bit formats are exact in it. Integer
products are summed exactly and added to C modulo 2**32.

XF32 instructions take float32 and drop the lowest 13 bits of its mantissa, as gfx942 was seen to do (pull requests 9176
of ROCm/rocm-libraries and 11783 of triton-lang/triton; the manual speaks of rounding too). A NaN of which only dropped
bits were set becomes Inf.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.fp8 import value_table
from incref_kernels.triton.native.host.intrinsics.lowering import WaveOperation, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["PLACE_A", "PLACE_B", "Shape", "mfma", "parse_shape", "product"]

_NAME = re.compile(r"llvm\.amdgcn\.mfma\.(f32|f64|i32)\.(\d+)x\d+x(\d+)\.?(.+)")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an MFMA instruction multiplies.

    Attributes:
        n: rows of A and columns of B.
        k: columns of A and rows of B.
        result: `f32`, `f64` or `i32`.
        left: type of A's elements (`f16`, `bf16`, `f32`, `xf32`, `f64`, `i8`, `fp8`, `bf8`), or the name of a format.
        right: type of B's elements.
        is_scaled: whether the elements are scaled: then what is multiplied is held as double.
    """

    n: int
    k: int
    result: str
    left: str
    right: str
    is_scaled: bool = False

    @property
    def name(self) -> str:
        """A name for the function."""
        kind = "mfma.scale" if self.is_scaled else "mfma"
        return f"{kind}.{self.result}.{self.n}x{self.n}x{self.k}.{self.left}.{self.right}"

    @property
    def work(self) -> str:
        """The type that products are made in."""
        return "double" if self.result == "f64" or self.is_scaled else "float"


_BITS = {"f16": 16, "bf16": 16, "f32": 32, "xf32": 32, "f64": 64, "i8": 8, "fp8": 8, "bf8": 8}


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
    kind = match[4].removesuffix(".1k") if match else ""
    left, _, right = kind.partition(".")
    if match is None or left not in _BITS or (right or left) not in _BITS:
        raise UnsupportedError(f"the matrix instruction {callee} is not known")
    n = int(match[2])
    k = operand_bytes * 8 // _BITS[left] * 64 // n
    if n not in {16, 32} or k != int(match[3]) or result_elements != n * n // 64:
        raise UnsupportedError(f"{callee} multiplies several blocks at once, which is not supported")
    return Shape(n=n, k=k, result=match[1], left=left, right=right or left)


def mfma(arch: str) -> WaveOperation:
    """Lower the dense instructions as the GPU `arch` has them."""

    def prepare(
        builder: LaneBuilder, inst: Instruction, names: Sequence[str], result: str
    ) -> Sequence[tuple[str, tuple[str | int, ...]]]:
        assert inst.callee is not None
        if any(constant(inst, index) for index in range(3, len(inst.operands))):
            raise UnsupportedError(f"{inst.callee} with a broadcast or a negation is not supported")
        elements = inst.type.size // (8 if ".f64." in inst.callee else 4)
        shape = parse_shape(inst.callee[1:], inst.operands[0].type.size, elements)
        left, right = (
            _unpacked(builder, shape, names[0], arch, is_left=True),
            _unpacked(builder, shape, names[1], arch, is_left=False),
        )
        function = builder.helper(f"@{shape.name}", product(shape))
        return [left, right, (function, (left[1][1], right[1][1], names[2], result))]

    return WaveOperation(shown=(0, 1, 2), prepare=prepare)


def _unpacked(
    builder: LaneBuilder, shape: Shape, name: str, arch: str, *, is_left: bool
) -> tuple[str, tuple[str, int]]:
    """The call that unpacks an operand, and where to; the same place for the same operand."""
    kind = shape.left if is_left else shape.right
    function = f"@unpack.{'a' if is_left else 'b'}.{shape.n}.{shape.k}.{kind}.{shape.work}"
    key = f"{function}({name})"
    if key not in builder.places:
        builder.places[key] = builder.reserve(shape.n * shape.k * (8 if shape.result == "f64" else 4))
    builder.helper(function, _unpack(builder, shape, kind, arch, function, is_left=is_left))
    return function, (name, builder.places[key])


def _unpack(builder: LaneBuilder, shape: Shape, kind: str, arch: str, function: str, *, is_left: bool) -> str:
    """Write the function that spreads an operand out: A as [group, k, r], B as [column, k]."""
    stored, decode = _decoder(builder, kind, arch)
    groups, elements = 64 // shape.n, shape.n * shape.n // 64
    values = {"n": shape.n, "k": shape.k, "groups": groups, "r": elements, "work": shape.work}
    place_left = _PLACE_A_F64 if shape.result == "f64" else PLACE_A
    place = place_left if is_left else PLACE_B
    return _UNPACK.format(
        name=function,
        e=shape.k * shape.n // 64,
        stored=stored,
        decode=decode("%raw", "%value"),
        place=place.format(**values),
        **values,
    )


def product(shape: Shape) -> str:
    """Write the multiplication of one wave, named as the shape is.

    Its arguments: A and B spread out (see `PLACE_A`, `PLACE_B`), and the lanes' C and D one after the other.
    """
    work, elements = shape.work, shape.n * shape.n // 64
    way = "scaled" if shape.is_scaled else shape.result
    row = f"<{elements} x {work}>"
    held = {"f32": "float", "f64": "double", "i32": "i32"}[shape.result]
    values = {
        "name": shape.name,
        "n": shape.n,
        "k": shape.k,
        "r": elements,
        "groups": 64 // shape.n,
        "work": work,
        "row": row,
        "held_row": f"<{elements} x {held}>",
        "fma": f"@llvm.fma.v{elements}f{64 if work == 'double' else 32}",
    }
    columns = range(4)
    parts = {
        "loads": "\n".join(_LOAD_C.format(q=q, **values) + _START[way].format(q=q, **values) for q in columns),
        "phis": "\n".join(_PHI.format(q=q, **values) for q in columns),
        "steps": "\n".join((_STEP + _SUM[way]).format(q=q, **values) for q in columns),
        "stores": "\n".join(_FINISH[way].format(q=q, **values) + _STORE_D.format(q=q, **values) for q in columns),
    }
    return _PRODUCT.format(**values, **parts)


_Decode = Callable[[str, str], str]


def _decoder(builder: LaneBuilder, kind: str, arch: str) -> tuple[str, _Decode]:
    """How an element is stored, and the text that decodes it: exactly, into the type that is summed in."""
    if kind in {"f32", "f64"}:
        stored = "float" if kind == "f32" else "double"
        return stored, lambda raw, value: f"{value} = select i1 true, {stored} {raw}, {stored} zeroinitializer"
    if kind == "xf32":
        return "i32", _cut_mantissa
    if kind == "f16":
        return "half", lambda raw, value: f"{value} = fpext half {raw} to float"
    if kind == "bf16":
        return "i16", _widen_bfloat
    if kind == "i8":
        return "i8", lambda raw, value: f"{value} = sitofp i8 {raw} to float"
    table = value_table(builder, kind, arch)

    def look_up(raw: str, value: str) -> str:
        return (
            f"{value}.index = zext i8 {raw} to i64\n"
            f"  {value}.at = getelementptr float, ptr {table}, i64 {value}.index\n"
            f"  {value} = load float, ptr {value}.at"
        )

    return "i8", look_up


def _cut_mantissa(raw: str, value: str) -> str:
    # Of float32's 23 bits of mantissa 10 stay.
    return f"{value}.bits = and i32 {raw}, {-1 << 13}\n  {value} = bitcast i32 {value}.bits to float"


def _widen_bfloat(raw: str, value: str) -> str:
    return (
        f"{value}.bits = zext i16 {raw} to i32\n"
        f"  {value}.moved = shl i32 {value}.bits, 16\n"
        f"  {value} = bitcast i32 {value}.moved to float"
    )


# Row i of A belongs to the lane group and register that hold row i of D.
PLACE_A = """  %fours = lshr i32 %column, 2
  %group_of = urem i32 %fours, {groups}
  %high = udiv i32 %fours, {groups}
  %high_four = shl i32 %high, 2
  %low = and i32 %column, 3
  %register = or i32 %high_four, %low
  %row_start = mul i32 %group_of, {k}
  %row = add i32 %row_start, %kk
  %row_place = mul i32 %row, {r}
  %place = add i32 %row_place, %register"""
_PLACE_A_F64 = """  %group_of = urem i32 %column, {groups}
  %register = udiv i32 %column, {groups}
  %row_start = mul i32 %group_of, {k}
  %row = add i32 %row_start, %kk
  %row_place = mul i32 %row, {r}
  %place = add i32 %row_place, %register"""
PLACE_B = """  %column_start = mul i32 %column, {k}
  %place = add i32 %column_start, %kk"""

_UNPACK = """
define internal void {name}(ptr noalias %from, ptr noalias %to) noinline {{
entry:
  br label %lanes
lanes:
  %lane = phi i32 [0, %entry], [%next_lane, %lane_end]
  %column = urem i32 %lane, {n}
  %group = udiv i32 %lane, {n}
  %lane_start = mul i32 %lane, {e}
  %k_start = mul i32 %group, {e}
  br label %element
element:
  %e = phi i32 [0, %lanes], [%next_e, %element]
  %index = add i32 %lane_start, %e
  %kk = add i32 %k_start, %e
  %at = getelementptr {stored}, ptr %from, i32 %index
  %raw = load {stored}, ptr %at, align 1
  {decode}
{place}
  %target = getelementptr {work}, ptr %to, i32 %place
  store {work} %value, ptr %target
  %next_e = add i32 %e, 1
  %more_e = icmp ult i32 %next_e, {e}
  br i1 %more_e, label %element, label %lane_end
lane_end:
  %next_lane = add i32 %lane, 1
  %more_lanes = icmp ult i32 %next_lane, 64
  br i1 %more_lanes, label %lanes, label %exit
exit:
  ret void
}}
"""

_LOAD_C = """  %lane{q} = add i32 %lane, {q}
  %c_lane{q} = getelementptr {held_row}, ptr %c, i32 %lane{q}
  %held{q} = load {held_row}, ptr %c_lane{q}, align 1
"""
_SAME = "  %start{q} = select i1 true, {row} %held{q}, {row} zeroinitializer"
_START = {
    "f32": _SAME,
    "f64": _SAME,
    "i32": "  %start{q} = select i1 true, {row} zeroinitializer, {row} zeroinitializer",
    "scaled": "  %start{q} = fpext {held_row} %held{q} to {row}",
}
_PHI = "  %acc{q} = phi {row} [%start{q}, %columns], [%sum{q}, %step]"
_STEP = """  %column{q} = add i32 %column, {q}
  %b_start{q} = mul i32 %column{q}, {k}
  %b_place{q} = add i32 %b_start{q}, %kn
  %b_at{q} = getelementptr {work}, ptr %b, i32 %b_place{q}
  %y{q} = load {work}, ptr %b_at{q}
  %y_one{q} = insertelement {row} poison, {work} %y{q}, i32 0
  %y_all{q} = shufflevector {row} %y_one{q}, {row} poison, <{r} x i32> zeroinitializer
"""
_ROUNDED = "  %sum{q} = call {row} {fma}({row} %x, {row} %y_all{q}, {row} %acc{q})"
_SUM = {
    "f32": _ROUNDED,
    "f64": _ROUNDED,
    "i32": _ROUNDED,
    # Rounded once as a whole: see `host.intrinsics.matrix_scaled`.
    "scaled": """  %wide{q} = call {row} {fma}({row} %x, {row} %y_all{q}, {row} %acc{q})
  %single{q} = fptrunc {row} %wide{q} to {held_row}
  %sum{q} = fpext {held_row} %single{q} to {row}""",
}
_DONE = "  %out{q} = select i1 true, {row} %sum{q}, {row} zeroinitializer\n"
_FINISH = {
    "f32": _DONE,
    "f64": _DONE,
    "scaled": "  %out{q} = fptrunc {row} %sum{q} to {held_row}\n",
    "i32": "  %whole{q} = fptosi {row} %sum{q} to <{r} x i32>\n  %out{q} = add <{r} x i32> %held{q}, %whole{q}\n",
}
_STORE_D = """  %d_at{q} = getelementptr {held_row}, ptr %d, i32 %lane{q}
  store {held_row} %out{q}, ptr %d_at{q}, align 1"""

_PRODUCT = """
define internal void @{name}(ptr noalias %a, ptr noalias %b, ptr %c, ptr %d) noinline {{
entry:
  br label %columns
columns:
  %lane = phi i32 [0, %entry], [%next_lane, %finish]
  %column = urem i32 %lane, {n}
  %group = udiv i32 %lane, {n}
  %a_start = mul i32 %group, {k}
{loads}
  br label %step
step:
  %kn = phi i32 [0, %columns], [%next_k, %step]
{phis}
  %a_row = add i32 %a_start, %kn
  %a_at = getelementptr {row}, ptr %a, i32 %a_row
  %x = load {row}, ptr %a_at, align 16
{steps}
  %next_k = add i32 %kn, 1
  %more_k = icmp ult i32 %next_k, {k}
  br i1 %more_k, label %step, label %finish
finish:
{stores}
  %next_lane = add i32 %lane, 4
  %more_lanes = icmp ult i32 %next_lane, 64
  br i1 %more_lanes, label %columns, label %exit
exit:
  ret void
}}
"""
