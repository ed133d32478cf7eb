"""Float32 operations rounded down, up and towards zero.

Each result is found rounded to nearest, then moved by one float if it lies on the wrong side of the exact one, of which
double knows more: products are exact there; of a sum `s + e` with `s = a + b` rounded to double `e` is what that lost,
exactly (Knuth's TwoSum); of a quotient or root the sign of `a - q * b` or `a - r * r`, one fused operation, is what is
missing.
"""

from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.intrinsics.steps import steps
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["DIRECTED"]

# %near is within one float of the exact %near + %lost + %more; where %lost is not 0, it alone says on which side.
_MOVE = """
define internal float @rounded.{mode}(float %near, double %lost, double %more) alwaysinline {{
  %is.less = fcmp olt double %lost, 0.0
  %is.same = fcmp oeq double %lost, 0.0
  %more.is.less = fcmp olt double %more, 0.0
  %same.less = and i1 %is.same, %more.is.less
  %near.is.above = or i1 %is.less, %same.less
  %is.more = fcmp ogt double %lost, 0.0
  %more.is.more = fcmp ogt double %more, 0.0
  %same.more = and i1 %is.same, %more.is.more
  %near.is.below = or i1 %is.more, %same.more
  %bits = bitcast float %near to i32
  %is.negative = icmp slt i32 %bits, 0
  %outwards = add i32 %bits, 1
  %inwards = sub i32 %bits, 1
  %is.zero = fcmp oeq float %near, 0.0
  %plain.up = select i1 %is.negative, i32 %inwards, i32 %outwards
  %plain.down = select i1 %is.negative, i32 %outwards, i32 %inwards
  %up = select i1 %is.zero, i32 1, i32 %plain.up
  %down = select i1 %is.zero, i32 -2147483647, i32 %plain.down
  %rd = select i1 %near.is.above, i32 %down, i32 %bits
  %ru = select i1 %near.is.below, i32 %up, i32 %bits
  %rz = select i1 %is.negative, i32 %ru, i32 %rd
  %result = bitcast i32 %{mode} to float
  ret float %result
}}
"""


def _moved(builder: LaneBuilder, mode: str, near: str, lost: str, more: str) -> str:
    function = builder.helper(f"@rounded.{mode}", _MOVE.format(mode=mode))
    return builder.value(f"call float {function}(float {near}, double {lost}, double {more})")


def _of_sum(builder: LaneBuilder, mode: str, total: str, more: str) -> str:
    near = builder.value(f"fptrunc double {total} to float")
    wide = builder.value(f"fpext float {near} to double")
    lost = builder.value(f"fsub double {total}, {wide}")
    return _moved(builder, mode, near, lost, more)


def _wide(builder: LaneBuilder, inst: Instruction) -> list[str]:
    return [builder.value(f"fpext {operand} to double") for operand in inst.operands]


def _two_sum(builder: LaneBuilder, a: str, b: str) -> tuple[str, str]:
    total = builder.value(f"fadd double {a}, {b}")
    virtual = builder.value(f"fsub double {total}, {a}")
    rest = builder.value(f"fsub double {total}, {virtual}")
    lost_of_a = builder.value(f"fsub double {a}, {rest}")
    lost_of_b = builder.value(f"fsub double {b}, {virtual}")
    return total, builder.value(f"fadd double {lost_of_a}, {lost_of_b}")


def _sum(builder: LaneBuilder, mode: str, a: str, b: str) -> str:
    """A sum of doubles, rounded to float32 once."""
    total, more = _two_sum(builder, a, b)
    found = _of_sum(builder, mode, total, more)
    if mode != "rd":
        return found
    # Rounded down, a sum that is exactly 0 is -0, unless both are 0 and neither is -0.
    signs = [builder.value(f"bitcast double {x} to i64") for x in (a, b)]
    either = builder.value(f"or i64 {signs[0]}, {signs[1]}")
    is_negative = builder.value(f"icmp slt i64 {either}, 0")
    zero = builder.value(f"select i1 {is_negative}, float -0.0, float 0.0")
    is_zero = builder.value(f"fcmp oeq float {found}, 0.0")
    return builder.value(f"select i1 {is_zero}, float {zero}, float {found}")


def _add(mode: str) -> Simple:
    return lambda builder, inst: _sum(builder, mode, *_wide(builder, inst))


def _subtract(mode: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        a, b = _wide(builder, inst)
        return _sum(builder, mode, a, builder.value(f"fneg double {b}"))

    return lower


def _multiply(mode: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        a, b = _wide(builder, inst)
        product = builder.value(f"fmul double {a}, {b}")
        return _of_sum(builder, mode, product, "0.0")

    return lower


def _fused(mode: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        a, b, c = _wide(builder, inst)
        return _sum(builder, mode, builder.value(f"fmul double {a}, {b}"), c)

    return lower


def _quotient(builder: LaneBuilder, mode: str, a: str, b: str) -> str:
    narrow = [builder.value(f"fptrunc double {x} to float") for x in (a, b)]
    near = builder.value(f"fdiv float {narrow[0]}, {narrow[1]}")
    wide = builder.value(f"fpext float {near} to double")
    minus = builder.value(f"fneg double {wide}")
    rest = builder.value(f"call double @llvm.fma.f64(double {minus}, double {b}, double {a})")
    opposite = builder.value(f"fneg double {rest}")
    is_negative = builder.value(f"fcmp olt double {b}, 0.0")
    missing = builder.value(f"select i1 {is_negative}, double {opposite}, double {rest}")
    return _moved(builder, mode, near, "0.0", missing)


def _divide(mode: str) -> Simple:
    return lambda builder, inst: _quotient(builder, mode, *_wide(builder, inst))


def _reciprocal(mode: str) -> Simple:
    return lambda builder, inst: _quotient(builder, mode, "1.0", *_wide(builder, inst))


def _root(mode: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        (x,) = inst.operands
        (exact,) = _wide(builder, inst)
        near = builder.value(f"call float @llvm.sqrt.f32({x})")
        wide = builder.value(f"fpext float {near} to double")
        minus = builder.value(f"fneg double {wide}")
        rest = builder.value(f"call double @llvm.fma.f64(double {minus}, double {wide}, double {exact})")
        return _moved(builder, mode, near, "0.0", rest)

    return lower


def _narrowed(mode: str, *to_double: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        exact = steps(*to_double)(builder, inst) if to_double else str(inst.operands[0].value)
        return _of_sum(builder, mode, exact, "0.0")

    return lower


def _from_64_bits(mode: str, conversion: str, shift: str) -> Simple:
    """Both halves are doubles."""
    high = steps(f"{shift} {{a}}, 32", f"{conversion} i64 {{0}} to double", "fmul double {1}, 0x41F0000000000000")
    low = steps("and {a}, 4294967295", "uitofp i64 {0} to double")

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        return _of_sum(builder, mode, *_two_sum(builder, high(builder, inst), low(builder, inst)))

    return lower


def _of(mode: str) -> dict[str, Simple]:
    return {
        f"__nv_fadd_{mode}": _add(mode),
        f"__nv_fsub_{mode}": _subtract(mode),
        f"__nv_fmul_{mode}": _multiply(mode),
        f"__nv_fdiv_{mode}": _divide(mode),
        f"__nv_frcp_{mode}": _reciprocal(mode),
        f"__nv_fsqrt_{mode}": _root(mode),
        f"__nv_fmaf_{mode}": _fused(mode),
        f"__nv_double2float_{mode}": _narrowed(mode),
        f"__nv_int2float_{mode}": _narrowed(mode, "sitofp {a} to double"),
        f"__nv_uint2float_{mode}": _narrowed(mode, "uitofp {a} to double"),
        f"__nv_ll2float_{mode}": _from_64_bits(mode, "sitofp", "ashr"),
        f"__nv_ull2float_{mode}": _from_64_bits(mode, "uitofp", "lshr"),
    }


DIRECTED = {name: lowering for mode in ("rd", "ru", "rz") for name, lowering in _of(mode).items()}
