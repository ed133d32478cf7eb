"""Arithmetic that the host's LLVM doesn't have, or has with more freedom than a reference can leave."""

from incref_kernels.triton.native.host.elements import BIT, bits_of, float_of, like, overload, repeated
from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.narrow import fused as fused_narrow
from incref_kernels.triton.native.host.narrow import is_narrow
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["ARITHMETIC", "canonicalize", "extreme", "is_nan", "multiply_add"]


def extreme(predicate: str, combine: str, *, propagates: bool) -> Simple:
    """Write a minimum or maximum with every case decided.

    Of two zeros the positive one is greater. A NaN is dropped (maxnum, minnum: IEEE 754-2008's, and what the GPU's
    v_max does) or propagated (maximum, minimum).

    Args:
        predicate: `ogt` for the maximum, `olt` for the minimum.
        combine: what gives the right one of two zeros by their bits: `and` for the maximum, `or` for the minimum.
        propagates: whether a NaN wins.
    """

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        left, right = inst.operands
        kind, bits, bit = inst.type, bits_of(inst.type), like(inst.type, BIT)
        left_wins = builder.value(f"fcmp {predicate} {left}, {right.value}")
        chosen = builder.value(f"select {bit} {left_wins}, {left}, {right}")
        left_bits = builder.value(f"bitcast {left} to {bits}")
        right_bits = builder.value(f"bitcast {right} to {bits}")
        both = builder.value(f"{combine} {bits} {left_bits}, {right_bits}")
        merged = builder.value(f"bitcast {bits} {both} to {kind}")
        equal = builder.value(f"fcmp oeq {left}, {right.value}")
        chosen = builder.value(f"select {bit} {equal}, {kind} {merged}, {kind} {chosen}")
        # With one NaN the comparison failed and the right one was chosen.
        nan_side, other = (left, left) if propagates else (right, left)
        is_nan = builder.value(f"fcmp uno {nan_side}, {nan_side.value}")
        return builder.value(f"select {bit} {is_nan}, {other}, {kind} {chosen}")

    return lower


def multiply_add(builder: LaneBuilder, inst: Instruction, *, fused: bool) -> str:
    """Write llvm.fmuladd with one meaning: two roundings, or one where fusion was asked for."""
    a, b, c = inst.operands
    if fused and is_narrow(inst.type):
        return fused_narrow(builder, inst)
    if fused:
        return builder.value(f"call {inst.type} @llvm.fma.{overload(inst.type)}({a}, {b}, {c})")
    product = builder.value(f"fmul {a}, {b.value}")
    return builder.value(f"fadd {inst.type} {product}, {c.value}")


def canonicalize(builder: LaneBuilder, inst: Instruction) -> str:
    """Write llvm.canonicalize: the value itself, a signaling NaN made quiet; subnormals are kept.

    In integers: the host's LLVM has it for few types.
    """
    (x,) = inst.operands
    kind, bits = inst.type, bits_of(inst.type)
    raw = builder.value(f"bitcast {x} to {bits}")
    quiet = builder.value(f"or {bits} {raw}, {repeated(bits, 1 << (float_of(kind).mantissa_bits - 1))}")
    chosen = builder.value(f"select {like(kind, BIT)} {is_nan(builder, x)}, {bits} {quiet}, {bits} {raw}")
    return builder.value(f"bitcast {bits} {chosen} to {kind}")


def is_nan(builder: LaneBuilder, value: Typed) -> str:
    """Write whether a float is NaN, or each float of a vector, in integers."""
    kind, bits = value.type, bits_of(value.type)
    sign = 1 << (float_of(kind).bits - 1)
    infinite = sign - (1 << float_of(kind).mantissa_bits)
    raw = builder.value(f"bitcast {value} to {bits}")
    magnitude = builder.value(f"and {bits} {raw}, {repeated(bits, sign - 1)}")
    return builder.value(f"icmp ugt {bits} {magnitude}, {repeated(bits, infinite)}")


def _median(builder: LaneBuilder, inst: Instruction) -> str:
    """v_med3_f32: the middle one of three; with a NaN among them the least of the others."""
    a, b, c = inst.operands
    kind, bit = inst.type, like(inst.type, BIT)

    def choose(predicate: str, left: str, right: str) -> str:
        wins = builder.value(f"fcmp {predicate} {kind} {left}, {right}")
        return builder.value(f"select {bit} {wins}, {kind} {left}, {kind} {right}")

    def least(left: str, right: str) -> str:
        chosen = choose("olt", left, right)
        is_nan = builder.value(f"fcmp uno {kind} {right}, {right}")
        return builder.value(f"select {bit} {is_nan}, {kind} {left}, {kind} {chosen}")

    low, high = choose("olt", str(a.value), str(b.value)), choose("ogt", str(a.value), str(b.value))
    middle = choose("ogt", low, choose("olt", high, str(c.value)))
    smallest = least(least(str(a.value), str(b.value)), str(c.value))
    any_nan = builder.value(f"fcmp uno {a}, {b.value}")
    third = builder.value(f"fcmp uno {c}, {c.value}")
    either = builder.value(f"or {bit} {any_nan}, {third}")
    return builder.value(f"select {bit} {either}, {kind} {smallest}, {kind} {middle}")


def _permute_bytes(builder: LaneBuilder, inst: Instruction) -> str:
    """v_perm_b32: each byte of the third operand picks one of the 8 bytes {first, second}, or a constant.

    Selectors 0-3 are the second operand's bytes, 4-7 the first's; 8-11 the sign of bytes 1, 3, 5, 7; 12 is 0x00, and
    those above 0xFF.
    """
    high, low, selectors = inst.operands
    wide_high = builder.value(f"zext {high} to i64")
    wide_low = builder.value(f"zext {low} to i64")
    shifted = builder.value(f"shl i64 {wide_high}, 32")
    all_bytes = builder.value(f"or i64 {shifted}, {wide_low}")
    result = "0"
    for place in range(4):
        moved = builder.value(f"lshr {selectors}, {8 * place}")
        selector = builder.value(f"and i32 {moved}, 255")
        byte = _selected(builder, all_bytes, selector)
        put = builder.value(f"shl i32 {byte}, {8 * place}")
        result = builder.value(f"or i32 {result}, {put}")
    return result


def _selected(builder: LaneBuilder, all_bytes: str, selector: str) -> str:
    plain = _byte(builder, all_bytes, builder.value(f"and i32 {selector}, 7"))
    odd = builder.value(f"shl i32 {selector}, 1")
    odd_place = builder.value(f"and i32 {odd}, 7")
    signed = _byte(builder, all_bytes, builder.value(f"or i32 {odd_place}, 1"))
    is_negative = builder.value(f"icmp ugt i32 {signed}, 127")
    sign = builder.value(f"select i1 {is_negative}, i32 255, i32 0")
    is_plain = builder.value(f"icmp ult i32 {selector}, 8")
    is_sign = builder.value(f"icmp ult i32 {selector}, 12")
    is_zero = builder.value(f"icmp eq i32 {selector}, 12")
    fixed = builder.value(f"select i1 {is_zero}, i32 0, i32 255")
    other = builder.value(f"select i1 {is_sign}, i32 {sign}, i32 {fixed}")
    return builder.value(f"select i1 {is_plain}, i32 {plain}, i32 {other}")


def _byte(builder: LaneBuilder, all_bytes: str, place: str) -> str:
    distance = builder.value(f"shl i32 {place}, 3")
    wide = builder.value(f"zext i32 {distance} to i64")
    moved = builder.value(f"lshr i64 {all_bytes}, {wide}")
    narrow = builder.value(f"trunc i64 {moved} to i32")
    return builder.value(f"and i32 {narrow}, 255")


ARITHMETIC: dict[str, Simple] = {
    "llvm.maxnum": extreme("ogt", "and", propagates=False),
    "llvm.minnum": extreme("olt", "or", propagates=False),
    "llvm.maximumnum": extreme("ogt", "and", propagates=False),
    "llvm.minimumnum": extreme("olt", "or", propagates=False),
    "llvm.maximum": extreme("ogt", "and", propagates=True),
    "llvm.minimum": extreme("olt", "or", propagates=True),
    "llvm.canonicalize": canonicalize,
    "llvm.amdgcn.fmed3": _median,
    "llvm.amdgcn.perm": _permute_bytes,
}
