"""Products of the short vectors that a register holds, added up.

Source: AMD "Vega" 7nm ISA, V_DOT4_I32_I8, V_DOT4_U32_U8 and V_DOT2_F32_F16. Integers are summed exactly; the result is
their sum modulo 2**32, or with CLAMP the nearest number of the type. Of halves acc = C, then for ascending k
acc = fma(a, b, acc) in float32, in which the products are exact.
"""

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.lowering import Simple, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["DOTS"]


def _of_bytes(extend: str, least: int, greatest: int, smaller: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        left, right, start = inst.operands[:3]
        total = builder.value(f"{extend} {start} to i64")
        for place in range(4):
            parts = []
            for word in (left, right):
                moved = builder.value(f"lshr {word}, {8 * place}")
                byte = builder.value(f"trunc i32 {moved} to i8")
                parts.append(builder.value(f"{extend} i8 {byte} to i64"))
            product = builder.value(f"mul i64 {parts[0]}, {parts[1]}")
            total = builder.value(f"add i64 {total}, {product}")
        if constant(inst, 3):
            for function, limit in ((f"{smaller}max", least), (f"{smaller}min", greatest)):
                total = builder.value(f"call i64 @llvm.{function}.i64(i64 {total}, i64 {limit})")
        return builder.value(f"trunc i64 {total} to i32")

    return lower


def _of_halves(builder: LaneBuilder, inst: Instruction) -> str:
    left, right, start = inst.operands[:3]
    if constant(inst, 3):
        raise UnsupportedError(f"{inst.callee} that clamps its result to [0, 1] is not supported")
    total = str(start.value)
    for place in range(2):
        parts = []
        for pair in (left, right):
            half = builder.value(f"extractelement {pair}, i32 {place}")
            parts.append(builder.value(f"fpext half {half} to float"))
        total = builder.value(f"call float @llvm.fma.f32(float {parts[0]}, float {parts[1]}, float {total})")
    return total


DOTS: dict[str, Simple] = {
    "llvm.amdgcn.sdot4": _of_bytes("sext", -(1 << 31), (1 << 31) - 1, "s"),
    "llvm.amdgcn.udot4": _of_bytes("zext", 0, (1 << 32) - 1, "u"),
    "llvm.amdgcn.fdot2": _of_halves,
}
