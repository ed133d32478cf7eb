"""gfx950's conversions between two 8-bit floats and wider ones, with a scale.

Source: AMD CDNA 4 ISA, V_CVT_SCALEF32_PK_{F32,F16,BF16}_{FP8,BF8} and back. Of the scale, a float, only the exponent
counts: with E its biased exponent the value is multiplied by 2**(E - 127) on the way to a wider format and divided by
it on the way back, exactly; the result is rounded once, to nearest even. A scale with E = 255 gives NaN. What is larger
than the 8-bit format holds becomes its largest number, Inf too: the mode that Triton sets (FP16_OVFL) clamps.
"""

from incref.formats.spec import FloatFormat
from incref.formats.table import FORMATS
from incref_kernels.triton.native.host.elements import FLOAT, is_bfloat
from incref_kernels.triton.native.host.floats16 import rounded, widen
from incref_kernels.triton.native.host.intrinsics.fp8 import table_of
from incref_kernels.triton.native.host.intrinsics.lowering import Simple, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import VectorType

__all__ = ["SCALED_CASTS"]

_NARROW = {"fp8": "float8_e4m3fn", "bf8": "float8_e5m2"}
_BIAS, _WIDE_BIAS, _WIDE_BITS = 127, 1023, 52
_PAIR = VectorType(2, FLOAT)


def _format(kind: str) -> FloatFormat:
    fmt = FORMATS[_NARROW[kind]]
    assert isinstance(fmt, FloatFormat)
    return fmt


def _power(builder: LaneBuilder, scale: str, *, is_inverse: bool) -> str:
    """The power of two that the scale is, or its inverse, as a double; NaN for E = 255."""
    bits = builder.value(f"bitcast float {scale} to i32")
    moved = builder.value(f"lshr i32 {bits}, 23")
    exponent = builder.value(f"and i32 {moved}, 255")
    biased = builder.value(
        f"sub i32 {_WIDE_BIAS + _BIAS}, {exponent}" if is_inverse else f"add i32 {exponent}, {_WIDE_BIAS - _BIAS}"
    )
    wide = builder.value(f"zext i32 {biased} to i64")
    placed = builder.value(f"shl i64 {wide}, {_WIDE_BITS}")
    power = builder.value(f"bitcast i64 {placed} to double")
    is_nan = builder.value(f"icmp eq i32 {exponent}, 255")
    return builder.value(f"select i1 {is_nan}, double 0x7FF8000000000000, double {power}")


def _to_wide(kind: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        word, scale = (str(operand.value) for operand in inst.operands[:2])
        table, shift = table_of(builder, _format(kind)), 16 * constant(inst, 2)
        power = _power(builder, scale, is_inverse=False)
        pair = "poison"
        for place in range(2):
            moved = builder.value(f"lshr i32 {word}, {shift + 8 * place}")
            code = builder.value(f"and i32 {moved}, 255")
            address = builder.value(f"getelementptr float, ptr {table}, i32 {code}")
            value = builder.value(f"load float, ptr {address}")
            wide = builder.value(f"fpext float {value} to double")
            scaled = builder.value(f"fmul double {wide}, {power}")
            # Exact: the least bit of a product is 2**-143. What is too large becomes Inf.
            single = builder.value(f"fptrunc double {scaled} to float")
            pair = builder.value(f"insertelement {_PAIR} {pair}, float {single}, i32 {place}")
        if is_bfloat(inst.type):
            return rounded(builder, builder.typed(_PAIR, pair))
        return pair if inst.type == _PAIR else builder.value(f"fptrunc {_PAIR} {pair} to {inst.type}")

    return lower


_ENCODE = """
define internal i16 @encode.{name}(double %x) alwaysinline {{
  %bits = bitcast double %x to i64
  %sign = lshr i64 %bits, 63
  %size.bits = and i64 %bits, 9223372036854775807
  %size = bitcast i64 %size.bits to double
  %at.last = lshr i64 %size.bits, {dropped}
  %last = and i64 %at.last, 1
  %bias = add i64 %last, {below_half}
  %moved = add i64 %size.bits, %bias
  %kept = lshr i64 %moved, {dropped}
  %normal = sub i64 %kept, {rebias}
  %shifted = fadd double %size, {shifter}
  %shifted.bits = bitcast double %shifted to i64
  %subnormal = sub i64 %shifted.bits, {shifter_bits}
  %is.small = fcmp olt double %size, {least_normal}
  %code = select i1 %is.small, i64 %subnormal, i64 %normal
  %is.large = icmp ugt i64 %code, {largest}
  %clamped = select i1 %is.large, i64 {largest}, i64 %code
  %is.nan = fcmp uno double %x, %x
  %chosen = select i1 %is.nan, i64 {nan}, i64 %clamped
  %sign.bit = shl i64 %sign, 7
  %signed = or i64 %sign.bit, %chosen
  %result = trunc i64 %signed to i16
  ret i16 %result
}}
"""


def _encoder(builder: LaneBuilder, kind: str) -> str:
    fmt = _format(kind)
    least, digits = 1 - fmt.bias, fmt.mantissa_bits
    # A sum with this power of two has its last bit where the format's subnormal numbers have theirs.
    shifter = (_WIDE_BIAS + _WIDE_BITS + least - digits) << _WIDE_BITS
    dropped = _WIDE_BITS - digits
    text = _ENCODE.format(
        name=fmt.name,
        dropped=dropped,
        below_half=(1 << dropped - 1) - 1,
        rebias=(_WIDE_BIAS - fmt.bias) << digits,
        shifter=f"0x{shifter:016X}",
        shifter_bits=shifter,
        least_normal=f"0x{(_WIDE_BIAS + least) << _WIDE_BITS:016X}",
        largest=max(code for code, value in enumerate(fmt.values) if value == fmt.qmax),
        nan=0x7F,
    )
    return builder.helper(f"@encode.{fmt.name}", text)


def _to_narrow(kind: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        old, *values, scale, _ = inst.operands
        doubles: list[str] = []
        for value in values:
            held = widen(builder, value) if is_bfloat(value.type) else value
            if held.type == FLOAT:
                doubles.append(builder.value(f"fpext {held} to double"))
                continue
            for place in range(2):
                element = builder.value(f"extractelement {held}, i32 {place}")
                single = str(held.type).split()[-1].rstrip(">")
                doubles.append(builder.value(f"fpext {single} {element} to double"))
        power = _power(builder, str(scale.value), is_inverse=True)
        encode = _encoder(builder, kind)
        codes = []
        for double in doubles:
            scaled = builder.value(f"fmul double {double}, {power}")
            codes.append(builder.value(f"call i16 {encode}(double {scaled})"))
        high = builder.value(f"shl i16 {codes[1]}, 8")
        pair = builder.value(f"or i16 {codes[0]}, {high}")
        return builder.value(f"insertelement {old}, i16 {pair}, i32 {constant(inst, len(inst.operands) - 1)}")

    return lower


SCALED_CASTS: dict[str, Simple] = {
    **{
        f"llvm.amdgcn.cvt.scalef32.pk.{wide}.{kind}": _to_wide(kind)
        for wide in ("f32", "f16", "bf16")
        for kind in _NARROW
    },
    **{
        f"llvm.amdgcn.cvt.scalef32.pk.{kind}.{wide}": _to_narrow(kind)
        for wide in ("f32", "f16", "bf16")
        for kind in _NARROW
    },
}
