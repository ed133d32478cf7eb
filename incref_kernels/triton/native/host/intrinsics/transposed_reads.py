"""gfx950's reads of shared memory that transpose.

Source: AMD CDNA 4 ISA, DS_READ_B64_TR_B16 and _B8: each lane reads 64 bits, part of a row of a matrix, and gets a
column of it. Each 16 lanes have a matrix of their own: of 4 rows of 16 elements of 16 bits, 4 lanes a row, or of 8 rows
of 16 elements of 8 bits, 2 lanes a row; lane i gets column i, the first row lowest. The ISA doesn't say which lanes
have which parts: that is inferred from how Triton gives the lanes their addresses, whose products are wrong with
another order, and was not seen on a GPU.
"""

from collections.abc import Sequence

from incref_kernels.triton.native.host.intrinsics.lowering import Exchange
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import IntType
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["TRANSPOSED_READS"]

_LANES = 16
_ROW = IntType(64)


def _show(builder: LaneBuilder, inst: Instruction) -> Sequence[Typed]:
    return [builder.typed(_ROW, builder.value(f"load i64, ptr {inst.operands[0].value}, align 8"))]


def _columns(bits: int) -> Exchange:
    held = 64 // bits

    def read(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
        first = builder.value(f"and i32 %lane, {-_LANES}")
        column = builder.value(f"and i32 %lane, {_LANES - 1}")
        part = builder.value(f"udiv i32 {column}, {held}")
        element = builder.value(f"urem i32 {column}, {held}")
        shift = builder.value(f"mul i32 {element}, {bits}")
        wide = builder.value(f"zext i32 {shift} to i64")
        result = "0"
        for row in range(held):
            offset = builder.value(f"add i32 {part}, {row * _LANES // held}")
            source = builder.value(f"add i32 {first}, {offset}")
            taken = builder.value(f"lshr i64 {builder.peek(places[0], _ROW, source)}, {wide}")
            alone = builder.value(f"and i64 {taken}, {(1 << bits) - 1}")
            placed = builder.value(f"shl i64 {alone}, {bits * row}")
            result = builder.value(f"or i64 {result}, {placed}")
        return builder.value(f"bitcast i64 {result} to {inst.type}")

    return Exchange(show=_show, read=read)


TRANSPOSED_READS = {
    "llvm.amdgcn.ds.read.tr16.b64": _columns(16),
    "llvm.amdgcn.ds.read.tr8.b64": _columns(8),
}
