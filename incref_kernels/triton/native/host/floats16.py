"""bfloat16 by way of float: the host holds its bits as an integer, and each operation is rounded once."""

from dataclasses import replace

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.elements import BIT, FLOAT, is_bfloat, like, repeated
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import IntType
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["lower_bfloat", "rounded", "widen", "widened_call"]

# For these a result in float, rounded again to bfloat16, is the correctly rounded one: it has more than twice the bits.
_ARITHMETIC = {"fadd", "fsub", "fmul", "fdiv"}
# For these the result in float is a bfloat16 already, or likewise.
_CALLS = {
    "fabs", "copysign", "floor", "ceil", "trunc", "rint", "nearbyint", "roundeven", "round", "sqrt",
    "maxnum", "minnum", "maximum", "minimum", "maximumnum", "minimumnum",
}  # fmt: skip
_COPIES = {
    "select",
    "phi",
    "load",
    "store",
    "extractelement",
    "insertelement",
    "shufflevector",
    "bitcast",
    "freeze",
    "call",
}


def widen(builder: LaneBuilder, operand: Typed) -> Typed:
    """Write bfloat16 to float, exactly."""
    ints, wide = like(operand.type, IntType(32)), like(operand.type, FLOAT)
    bits = builder.value(f"zext {operand} to {ints}")
    moved = builder.value(f"shl {ints} {bits}, {repeated(ints, 16)}")
    return builder.typed(wide, builder.value(f"bitcast {ints} {moved} to {wide}"))


def rounded(builder: LaneBuilder, value: Typed) -> str:
    """Write float to bfloat16, to nearest even; a NaN stays a NaN, made quiet. The name of its bits."""
    kind = value.type
    ints, half = like(kind, IntType(32)), like(kind, IntType(16))
    bits = builder.value(f"bitcast {value} to {ints}")
    shifted = builder.value(f"lshr {ints} {bits}, {repeated(ints, 16)}")
    odd = builder.value(f"and {ints} {shifted}, {repeated(ints, 1)}")
    bias = builder.value(f"add {ints} {odd}, {repeated(ints, 0x7FFF)}")
    moved = builder.value(f"add {ints} {bits}, {bias}")
    nearest = builder.value(f"lshr {ints} {moved}, {repeated(ints, 16)}")
    quiet = builder.value(f"or {ints} {shifted}, {repeated(ints, 0x40)}")
    is_nan = builder.value(f"fcmp uno {value}, {value.value}")
    bit = like(kind, BIT)
    chosen = builder.value(f"select {bit} {is_nan}, {ints} {quiet}, {ints} {nearest}")
    return builder.value(f"trunc {ints} {chosen} to {half}")


def lower_bfloat(builder: LaneBuilder, inst: Instruction) -> bool:
    """Write `inst` if it computes with bfloat16; whether it was written.

    Raises:
        UnsupportedError: for an operation that would be rounded twice.
    """
    makes, takes = is_bfloat(inst.type), any(is_bfloat(operand.type) for operand in inst.operands)
    if not (makes or takes) or inst.opcode in _COPIES:
        return False
    assert inst.result is not None
    kind = inst.type
    if inst.opcode == "fptrunc" and like(inst.operands[0].type, FLOAT) == inst.operands[0].type:
        text = rounded(builder, inst.operands[0])
    elif inst.opcode in _ARITHMETIC:
        left, right = (widen(builder, operand) for operand in inst.operands)
        wide = like(kind, FLOAT)
        text = rounded(builder, builder.typed(wide, builder.value(f"{inst.opcode} {left}, {right.value}")))
    elif inst.opcode == "fneg":
        ints = like(kind, IntType(16))
        text = builder.value(f"xor {ints} {inst.operands[0].value}, {repeated(ints, -0x8000)}")
    elif inst.opcode in {"fcmp", "fpext"}:
        wide_operands = tuple(widen(builder, operand) for operand in inst.operands)
        if inst.opcode == "fpext" and kind == wide_operands[0].type:
            text = str(wide_operands[0].value)
        else:
            builder.add(replace(inst, operands=wide_operands))
            return True
    else:
        raise UnsupportedError(f"{inst.opcode} of bfloat16 would be rounded twice and is not supported")
    builder.define(inst.result, f"select i1 true, {kind} {text}, {kind} poison")
    return True


def widened_call(builder: LaneBuilder, inst: Instruction) -> Instruction | None:
    """The call on float that gives the result of a call on bfloat16; None for a call that has no bfloat16.

    Raises:
        UnsupportedError: for a function whose result in float would be rounded once more.
    """
    if inst.callee is None or not is_bfloat(inst.type):
        return None
    base = inst.callee.removeprefix("@llvm.").rsplit(".", 1)[0]
    if base == "fma" or base.startswith("amdgcn.cvt."):
        return None
    if base not in _CALLS:
        raise UnsupportedError(f"{inst.callee} of bfloat16 would be rounded twice and is not supported")
    operands = tuple(widen(builder, operand) for operand in inst.operands)
    return replace(inst, callee=inst.callee.replace("bf16", "f32"), operands=operands, type=like(inst.type, FLOAT))
