"""Conversions of narrow floats, by a table of all their values.

Source: AMD Instinct MI300 ISA: V_CVT_F32_FP8, V_CVT_PK_F32_FP8 and their BF8 twins; `fnuz` formats before gfx950.
"""

import struct

from incref.formats.spec import FloatFormat
from incref.formats.table import FORMATS
from incref_kernels.triton.native.host.intrinsics.lowering import Simple, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["decoders", "table_of", "value_table"]


def value_table(builder: LaneBuilder, kind: str, arch: str) -> str:
    """Make the values of `fp8` or `bf8` as the GPU `arch` has them a constant of the module; its name."""
    is_ocp = arch == "gfx950"
    format_name = {
        "fp8": "float8_e4m3fn" if is_ocp else "float8_e4m3fnuz",
        "bf8": "float8_e5m2" if is_ocp else "float8_e5m2fnuz",
    }[kind]
    fmt = FORMATS[format_name]
    assert isinstance(fmt, FloatFormat)
    return table_of(builder, fmt)


def table_of(builder: LaneBuilder, fmt: FloatFormat) -> str:
    """Make the values of a format, by code, a constant of the module; its name."""
    values = [struct.pack("<f", value) for value in fmt.values]
    words = ", ".join(f"i32 {int.from_bytes(value, 'little')}" for value in values)
    name = f"@values.{fmt.name}"
    return builder.helper(name, f"{name} = private unnamed_addr constant [{len(values)} x i32] [{words}]")


def _decoded(builder: LaneBuilder, table: str, word: str, shift: int) -> str:
    moved = builder.value(f"lshr i32 {word}, {shift}")
    code = builder.value(f"and i32 {moved}, 255")
    address = builder.value(f"getelementptr float, ptr {table}, i32 {code}")
    return builder.value(f"load float, ptr {address}")


def _pair(kind: str, arch: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        table = value_table(builder, kind, arch)
        word, shift = str(inst.operands[0].value), 16 * constant(inst, 1)
        low, high = (_decoded(builder, table, word, shift + 8 * place) for place in range(2))
        half = builder.value(f"insertelement <2 x float> poison, float {low}, i32 0")
        return builder.value(f"insertelement <2 x float> {half}, float {high}, i32 1")

    return lower


def _one(kind: str, arch: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        table = value_table(builder, kind, arch)
        return _decoded(builder, table, str(inst.operands[0].value), 8 * constant(inst, 1))

    return lower


def decoders(arch: str) -> dict[str, Simple]:
    """The instructions that decode, as the GPU `arch` has them."""
    return {
        "llvm.amdgcn.cvt.pk.f32.fp8": _pair("fp8", arch),
        "llvm.amdgcn.cvt.pk.f32.bf8": _pair("bf8", arch),
        "llvm.amdgcn.cvt.f32.fp8": _one("fp8", arch),
        "llvm.amdgcn.cvt.f32.bf8": _one("bf8", arch),
    }
