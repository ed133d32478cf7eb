"""bfloat16 on hosts that lack it: its conversions and arithmetic by way of float, each rounded once."""

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import FloatType, IntType, Type, VectorType
from incref_kernels.triton.native.llir.values import Typed, host_name

__all__ = ["lower_bfloat"]

# For these a result in float, rounded again to bfloat16, is the correctly rounded one: float has more than twice the bits.
_ARITHMETIC = {"fadd", "fsub", "fmul", "fdiv"}


def _element(kind: Type) -> Type:
    return kind.element if isinstance(kind, VectorType) else kind


def like(kind: Type, element: Type) -> Type:
    """`kind` with another type of element."""
    return VectorType(kind.count, element) if isinstance(kind, VectorType) else element


def lower_bfloat(builder: LaneBuilder, inst: Instruction) -> bool:
    """Write `inst` if it makes a bfloat16.

    Returns:
        Whether it was written.

    Raises:
        UnsupportedError: for a conversion that float can't carry.
    """
    if _element(inst.type) != FloatType("bfloat") or inst.result is None:
        return False
    wide = like(inst.type, FloatType("float"))
    if inst.opcode == "fptrunc":
        (value,) = inst.operands
        if _element(value.type) != FloatType("float"):
            raise UnsupportedError(f"a conversion of {value.type} to bfloat would round twice and is not supported")
    elif inst.opcode in _ARITHMETIC:
        left, right = (builder.value(f"fpext {operand} to {wide}") for operand in inst.operands)
        value = builder.typed(wide, builder.value(f"{inst.opcode} {wide} {left}, {right}"))
    elif inst.opcode in {"sitofp", "uitofp", "frem"}:
        raise UnsupportedError(f"{inst.opcode} to bfloat is not supported")
    else:
        return False
    builder.emit(f"{host_name(inst.result)} = {rounded(builder, value, inst.type)}")
    return True


def rounded(builder: LaneBuilder, value: Typed, target: Type) -> str:
    """Write float to bfloat16, to nearest even; a NaN stays a NaN, made quiet."""
    ints, half = like(target, IntType(32)), like(target, IntType(16))

    def same(number: int) -> str:
        return str(number) if not isinstance(target, VectorType) else "<" + ", ".join([f"i32 {number}"] * target.count) + ">"

    bits = builder.value(f"bitcast {value} to {ints}")
    shifted = builder.value(f"lshr {ints} {bits}, {same(16)}")
    odd = builder.value(f"and {ints} {shifted}, {same(1)}")
    bias = builder.value(f"add {ints} {odd}, {same(0x7FFF)}")
    moved = builder.value(f"add {ints} {bits}, {bias}")
    nearest = builder.value(f"lshr {ints} {moved}, {same(16)}")
    quiet = builder.value(f"or {ints} {shifted}, {same(0x40)}")
    is_nan = builder.value(f"fcmp uno {value}, {value.value}")
    bit = f"<{target.count} x i1>" if isinstance(target, VectorType) else "i1"
    chosen = builder.value(f"select {bit} {is_nan}, {ints} {quiet}, {ints} {nearest}")
    narrow = builder.value(f"trunc {ints} {chosen} to {half}")
    return f"bitcast {half} {narrow} to {target}"
