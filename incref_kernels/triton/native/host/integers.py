"""Integer results that LLVM leaves open, and a processor may trap at: decided as a GPU decides them.

* A float beyond the range of a signed or unsigned 32-bit integer (64-bit for wider targets) becomes the nearest number
  of the range, NaN becomes 0; a narrower target keeps the low bits of that.
* A division by zero gives all bits one, its remainder the dividend. The least integer by -1 gives itself, remainder 0.
"""

from dataclasses import replace

from incref_kernels.triton.native.host.elements import BIT, element_of, is_bfloat, like, overload, repeated
from incref_kernels.triton.native.host.floats16 import widen
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import IntType, Type
from incref_kernels.triton.native.llir.values import Literal, Splat, Typed

__all__ = ["lower_integer"]

_DIVISIONS = {"sdiv", "udiv", "srem", "urem"}


def lower_integer(builder: LaneBuilder, inst: Instruction) -> bool:
    """Write `inst` if it is a division or makes an integer of a float; whether it was written."""
    if inst.opcode in {"fptosi", "fptoui"}:
        _from_float(builder, inst)
    elif inst.opcode in _DIVISIONS and not _is_harmless(inst.operands[1]):
        _division(builder, inst)
    else:
        return False
    return True


def _width(kind: Type) -> int:
    element = element_of(kind)
    assert isinstance(element, IntType)
    return element.bits


def _from_float(builder: LaneBuilder, inst: Instruction) -> None:
    assert inst.result is not None
    (value,) = inst.operands
    value = widen(builder, value) if is_bfloat(value.type) else value
    bits = _width(inst.type)
    wide = like(inst.type, IntType(64 if bits > 32 else 32))
    function = f"@llvm.{inst.opcode}.sat.{overload(wide)}.{overload(value.type)}"
    whole = builder.value(f"call {wide} {function}({value})")
    text = (
        f"select i1 true, {wide} {whole}, {wide} poison"
        if wide == inst.type
        else f"trunc {wide} {whole} to {inst.type}"
    )
    builder.define(inst.result, text)


def _is_harmless(divisor: Typed) -> bool:
    """Whether the divisor is a constant other than 0 and -1."""
    value = divisor.value.element.value if isinstance(divisor.value, Splat) else divisor.value
    return isinstance(value, Literal) and value.text.lstrip("-").isdigit() and int(value.text) not in {0, -1}


def _division(builder: LaneBuilder, inst: Instruction) -> None:
    assert inst.result is not None
    dividend, divisor = inst.operands
    kind, bit = inst.type, like(inst.type, BIT)
    is_zero = builder.value(f"icmp eq {divisor}, {repeated(kind, 0)}")
    unsafe = is_zero
    if inst.opcode in {"sdiv", "srem"}:
        is_minus_one = builder.value(f"icmp eq {divisor}, {repeated(kind, -1)}")
        is_least = builder.value(f"icmp eq {dividend}, {repeated(kind, -(1 << _width(kind) - 1))}")
        overflows = builder.value(f"and {bit} {is_minus_one}, {is_least}")
        unsafe = builder.value(f"or {bit} {is_zero}, {overflows}")
    safe = builder.value(f"select {bit} {unsafe}, {kind} {repeated(kind, 1)}, {divisor}")
    whole = f"{inst.result}.safe"
    builder.add(replace(inst, result=whole, operands=(dividend, builder.typed(kind, safe))))
    by_zero = f"{kind} {repeated(kind, -1)}" if inst.opcode.endswith("div") else str(dividend)
    builder.define(inst.result, f"select {bit} {is_zero}, {by_zero}, {kind} {whole}")
