"""16-bit floats of exact values that float does not hold, rounded once.

A value is first rounded to odd: of the two neighbours that enclose the exact value the one whose last bit is set. With
two bits more than the narrow type has, rounding that to nearest gives what rounding the exact value gives (Boldo and
Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from incref_kernels.triton.native.host.elements import (
    BIT,
    DOUBLE,
    FLOAT,
    bits_of,
    element_of,
    is_bfloat,
    like,
    overload,
    repeated,
)
from incref_kernels.triton.native.host.floats16 import rounded, widen
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import FloatType, Type
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["fused", "is_narrow", "lower_narrow"]

_OF_INTEGERS = {"sitofp": "fptosi", "uitofp": "fptoui"}


def is_narrow(kind: Type) -> bool:
    """Whether `kind` is a 16-bit float, or a vector of them."""
    return element_of(kind) == FloatType("half") or is_bfloat(kind)


def lower_narrow(builder: LaneBuilder, inst: Instruction) -> bool:
    """Write `inst` if it makes 16-bit floats of double, or bfloat16 of integers; whether it was written."""
    if inst.opcode == "fptrunc" and is_narrow(inst.type) and element_of(inst.operands[0].type) == DOUBLE:
        text = _narrowed(builder, inst.operands[0], inst.type)
    elif inst.opcode in _OF_INTEGERS and is_bfloat(inst.type):
        text = _narrowed(builder, _of_integer(builder, inst), inst.type)
    else:
        return False
    assert inst.result is not None
    builder.define(inst.result, f"select i1 true, {inst.type} {text}, {inst.type} poison")
    return True


def fused(builder: LaneBuilder, inst: Instruction) -> str:
    """Write llvm.fma of 16-bit floats: in double the product is exact, and the sum known with its error."""
    kind = like(inst.type, DOUBLE)
    a, b, c = (_double(builder, operand) for operand in inst.operands)
    product = builder.value(f"fmul {a}, {b.value}")
    total = builder.value(f"fadd {kind} {product}, {c.value}")
    # Knuth's two-sum: the error of an addition, exactly.
    added = builder.value(f"fsub {kind} {total}, {product}")
    left = builder.value(f"fsub {kind} {total}, {added}")
    error_left = builder.value(f"fsub {kind} {product}, {left}")
    error_right = builder.value(f"fsub {kind} {c.value}, {added}")
    error = builder.value(f"fadd {kind} {error_left}, {error_right}")
    return _narrowed(builder, _to_odd(builder, builder.typed(kind, total), builder.typed(kind, error)), inst.type)


def _double(builder: LaneBuilder, operand: Typed) -> Typed:
    operand = widen(builder, operand) if is_bfloat(operand.type) else operand
    kind = like(operand.type, DOUBLE)
    return builder.typed(kind, builder.value(f"fpext {operand} to {kind}"))


def _of_integer(builder: LaneBuilder, inst: Instruction) -> Typed:
    """Write the conversion to double, rounded to odd: 64 bits may be more than it holds."""
    (whole,) = inst.operands
    kind = like(inst.type, DOUBLE)
    nearest = builder.typed(kind, builder.value(f"{inst.opcode} {whole} to {kind}"))
    function = f"@llvm.{_OF_INTEGERS[inst.opcode]}.sat.{overload(whole.type)}.{overload(kind)}"
    back = builder.value(f"call {whole.type} {function}({nearest})")
    # At most the half of a unit of double, so its sign is that of a signed integer.
    rest = builder.value(f"sub {whole}, {back}")
    error = builder.value(f"sitofp {whole.type} {rest} to {kind}")
    return _to_odd(builder, nearest, builder.typed(kind, error))


def _narrowed(builder: LaneBuilder, value: Typed, kind: Type) -> str:
    """Write double to half or bfloat16, to nearest even, by way of float."""
    single = like(kind, FLOAT)
    nearest = builder.typed(single, builder.value(f"fptrunc {value} to {single}"))
    back = builder.value(f"fpext {nearest} to {value.type}")
    error = builder.value(f"fsub {value}, {back}")
    odd = _to_odd(builder, nearest, builder.typed(value.type, error))
    return rounded(builder, odd) if is_bfloat(kind) else builder.value(f"fptrunc {odd} to {kind}")


def _to_odd(builder: LaneBuilder, nearest: Typed, error: Typed) -> Typed:
    """Write the odd neighbour of the exact value `nearest + error`, given the one that is nearest; of NaN itself."""
    kind, bits, bit = nearest.type, bits_of(nearest.type), like(nearest.type, BIT)
    raw = builder.value(f"bitcast {nearest} to {bits}")
    last = builder.value(f"and {bits} {raw}, {repeated(bits, 1)}")
    is_even = builder.value(f"icmp eq {bits} {last}, {repeated(bits, 0)}")
    is_inexact = builder.value(f"fcmp one {error}, zeroinitializer")
    is_negative = builder.value(f"icmp slt {bits} {raw}, {repeated(bits, 0)}")
    is_below = builder.value(f"fcmp olt {error}, zeroinitializer")
    is_closer = builder.value(f"xor {bit} {is_negative}, {is_below}")
    step = builder.value(f"select {bit} {is_closer}, {bits} {repeated(bits, -1)}, {bits} {repeated(bits, 1)}")
    moves = builder.value(f"and {bit} {is_even}, {is_inexact}")
    taken = builder.value(f"select {bit} {moves}, {bits} {step}, {bits} zeroinitializer")
    moved = builder.value(f"add {bits} {raw}, {taken}")
    return builder.typed(kind, builder.value(f"bitcast {bits} {moved} to {kind}"))
