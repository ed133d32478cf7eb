"""Where a NaN comes from: the first operation that gives one of operands that are none (debug mode)."""

from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.intrinsics.arithmetic import is_nan
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import FloatType, Type, VectorType
from incref_kernels.triton.native.llir.values import Local, Typed

__all__ = ["watch_nan"]

_ARITHMETIC = {"fadd", "fsub", "fmul", "fdiv", "frem"}

_BORN = f"""
define internal void @nan_born(ptr %ctx, i1 %is, i32 %lane, i32 %site) {{
  br i1 %is, label %record, label %done
record:
  call void @failed(ptr %ctx, i32 {Failure.NAN_BORN:d}, i32 %lane, i32 %site)
  br label %done
done:
  ret void
}}
"""


def watch_nan(builder: LaneBuilder, inst: Instruction) -> None:
    """Write the check of an arithmetic operation, or of the call of a function of floats, after it."""
    if inst.result is None or not _is_float(inst.type):
        return
    operands = [operand for operand in inst.operands if _is_float(operand.type)]
    if not operands or not (inst.opcode in _ARITHMETIC or inst.opcode == "call"):
        return
    builder.helper("@failed", FAILED)
    builder.helper("@nan_born", _BORN)
    born = _any_nan(builder, Typed(inst.type, Local(inst.result)))
    for operand in operands:
        was = _any_nan(builder, operand)
        not_before = builder.value(f"xor i1 {was}, true")
        born = builder.value(f"and i1 {born}, {not_before}")
    what = inst.opcode if inst.callee is None else inst.callee[1:]
    builder.emit(f"call void @nan_born(ptr %ctx, i1 {born}, i32 %tid, i32 {builder.site(what)})")


def _is_float(kind: Type) -> bool:
    return isinstance(kind.element if isinstance(kind, VectorType) else kind, FloatType)


def _any_nan(builder: LaneBuilder, value: Typed) -> str:
    found = is_nan(builder, value)
    if not isinstance(value.type, VectorType):
        return found
    count = value.type.count
    mask = builder.value(f"bitcast <{count} x i1> {found} to i{count}")
    return builder.value(f"icmp ne i{count} {mask}, 0")
