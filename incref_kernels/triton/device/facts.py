"""What is decided while a kernel is compiled: the members of the enums, and functions of formats and options."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import triton
import triton.language as tl

from incref.formats import (
    E8M0,
    FORMATS,
    BlockFormat,
    BlockRule,
    ElementFormat,
    FloatFormat,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleOrder,
    ScaleRule,
)
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials
from incref.numerics.patterns import float_format_of
from incref_kernels.triton.available import is_interpreting
from incref_kernels.triton.hardware import FP8_TYPES, HardwareFloat

__all__ = [
    "DIVIDE",
    "ELEMENT",
    "NAN_BLOCK",
    "NAN_MAX",
    "NAN_ZERO",
    "NEAREST_AWAY",
    "NEAREST_EVEN",
    "NONSATURATE",
    "PRODUCT",
    "RULE_DIVIDE",
    "SATURATE",
    "SATURATE_BLOCK",
    "SATURATE_FINITE",
    "STOCHASTIC",
    "TOWARD_NEGATIVE",
    "TOWARD_POSITIVE",
    "TOWARD_ZERO",
    "W_THEN_X",
    "X_THEN_W",
    "are_nan_blocks",
    "bfloat16",
    "block_may_refuse",
    "block_nan_code",
    "block_nan_scale",
    "code_of_zero",
    "decodes_by_product",
    "divides_by_reciprocal",
    "e8m0",
    "encodes_in_hardware",
    "greatest_pattern",
    "hardware_type",
    "has_code_for_nan",
    "has_inf",
    "has_subnormals",
    "integer_offset",
    "integer_type",
    "is_float",
    "is_multiple",
    "is_unsigned",
    "is_upper_part",
    "layout_of_width",
    "least_code",
    "may_refuse",
    "nan_is_negative_zero",
    "normalizes",
    "power_of_two",
    "rounds_by_addition",
    "scale_encoding",
    "scale_threshold",
    "spare_bits",
    "store_encoding",
    "working_layout",
    "zero_point_encoding",
]

NEAREST_EVEN = tl.constexpr(Rounding.NEAREST_EVEN)
NEAREST_AWAY = tl.constexpr(Rounding.NEAREST_AWAY)
TOWARD_ZERO = tl.constexpr(Rounding.TOWARD_ZERO)
TOWARD_POSITIVE = tl.constexpr(Rounding.TOWARD_POSITIVE)
TOWARD_NEGATIVE = tl.constexpr(Rounding.TOWARD_NEGATIVE)
STOCHASTIC = tl.constexpr(Rounding.STOCHASTIC)
SATURATE = tl.constexpr(Overflow.SATURATE)
SATURATE_FINITE = tl.constexpr(Overflow.SATURATE_FINITE)
NONSATURATE = tl.constexpr(Overflow.NONSATURATE)
NAN_MAX = tl.constexpr(NanRule.MAX)
NAN_ZERO = tl.constexpr(NanRule.ZERO)
NAN_BLOCK = tl.constexpr(BlockRule.NAN_BLOCK)
ELEMENT = tl.constexpr(BlockRule.ELEMENT)
SATURATE_BLOCK = tl.constexpr(BlockRule.SATURATE)
DIVIDE = tl.constexpr(ScaleArithmetic.DIVIDE)
RULE_DIVIDE = tl.constexpr(ScaleRule.DIVIDE)
PRODUCT = tl.constexpr(ScaleOrder.PRODUCT)
X_THEN_W = tl.constexpr(ScaleOrder.X_THEN_W)
W_THEN_X = tl.constexpr(ScaleOrder.W_THEN_X)


class _Layouts:
    """The formats that kernels compute with.

    Attributes of a class, since Triton would compare a global with its first value at every launch.
    """

    by_width: ClassVar[Mapping[int, FloatFormat]] = {
        fmt.bits: fmt for fmt in (FORMATS["float32"], FORMATS["float64"]) if isinstance(fmt, FloatFormat)
    }
    e8m0: ClassVar[FloatFormat] = E8M0
    bfloat16: ClassVar[FloatFormat] = float_format_of(torch.bfloat16)
    is_interpreted: ClassVar[bool] = is_interpreting()
    int16: ClassVar[IntFormat] = IntFormat(name="int16", bits=16, is_signed=True, source="two's complement")


@triton.constexpr_function
def is_float(fmt: ElementFormat) -> bool:
    """Whether codes have sign, exponent and mantissa fields."""
    return isinstance(fmt, FloatFormat)


@triton.constexpr_function
def has_code_for_nan(fmt: ElementFormat) -> bool:
    """Whether a NaN can be encoded."""
    return isinstance(fmt, FloatFormat) and fmt.nan_code is not None


@triton.constexpr_function
def has_inf(fmt: FloatFormat) -> bool:
    """Whether Inf can be encoded."""
    return fmt.inf_code is not None


@triton.constexpr_function
def is_unsigned(fmt: FloatFormat) -> bool:
    """Whether there is no sign bit."""
    return not fmt.is_signed


@triton.constexpr_function
def nan_is_negative_zero(fmt: FloatFormat) -> bool:
    """Whether the one NaN stands where -0 would."""
    return fmt.is_signed and fmt.nan_code == fmt.sign_code


@triton.constexpr_function
def working_layout(layout: FloatFormat) -> FloatFormat:
    """The format whose patterns a kernel computes with: binary64 for binary64, else binary32."""
    return _Layouts.by_width[max(layout.bits, 32)]


@triton.constexpr_function
def is_upper_part(layout: FloatFormat, bits: int) -> bool:
    """Whether a pattern of `layout` is the upper part of one of 32 bits, as that of bfloat16 is."""
    return bits == 32 and layout.bits < 32 and layout.exponent_bits == 8


@triton.constexpr_function
def layout_of_width(bits: int) -> FloatFormat:
    """The format of patterns of 32 or 64 bits."""
    return _Layouts.by_width[bits]


@triton.constexpr_function
def integer_type(layout: FloatFormat) -> tl.dtype:
    """Type of integers that patterns are computed in."""
    return tl.int64 if layout.bits == 64 else tl.int32


@triton.constexpr_function
def integer_offset(fmt: IntFormat) -> int:
    """What the codes of a signed format, read as unsigned ones, are flipped with to be `code - min_code`."""
    return -fmt.min_code


@triton.constexpr_function
def e8m0() -> FloatFormat:
    """The format of scales that are powers of two."""
    return _Layouts.e8m0


@triton.constexpr_function
def bfloat16() -> FloatFormat:
    """The format that holds every value of 8-bit floats."""
    return _Layouts.bfloat16


@triton.constexpr_function
def zero_point_encoding() -> Encoding:
    """How the code of zero is rounded to an integer, before it is clamped."""
    return Encoding(fmt=_Layouts.int16, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.ZERO)


@triton.constexpr_function
def code_of_zero(fmt: FloatFormat) -> int:
    """Code of +0, or what it would be if codes went on below the first one."""
    return 0 if fmt.has_zero else -(1 << fmt.mantissa_bits)


@triton.constexpr_function
def may_refuse(to: Encoding) -> bool:
    """Whether an encoding has to report elements that have no code."""
    has_nan = isinstance(to.fmt, FloatFormat) and to.fmt.nan_code is not None
    return to.nan is NanRule.ERROR and not has_nan


@triton.constexpr_function
def normalizes(fmt: ElementFormat, layout: FloatFormat, is_divided: bool) -> bool:  # noqa: FBT001  # read by position
    """Whether subnormals of the source need their true exponent: the grid of the target reaches below its normals."""
    return is_divided or (isinstance(fmt, FloatFormat) and fmt.emin < layout.emin)


@triton.constexpr_function
def spare_bits(fmt: FloatFormat, layout: FloatFormat) -> int:
    """Bits that keep every shift positive where the target is as fine as the source."""
    return max(0, fmt.mantissa_bits - layout.mantissa_bits + 1)


@triton.constexpr_function
def rounds_by_addition(to: Encoding, layout: FloatFormat) -> bool:
    """Whether a sum of binary32 numbers does the rounding: to nearest even, on a grid whose numbers it holds.

    The parity of a code is that of its mantissa field, so there has to be one. The number that is added has to be a
    normal one.
    """
    fmt = to.fmt
    is_usual = to.rounding is Rounding.NEAREST_EVEN and to.overflow is Overflow.SATURATE and layout.bits == 32
    if not is_usual:
        return False
    if isinstance(fmt, IntFormat):
        return fmt.bits <= 16
    assert isinstance(fmt, FloatFormat)
    has_room = fmt.emin >= layout.emin and fmt.emax + layout.mantissa_bits - fmt.mantissa_bits < layout.emax
    return has_room and fmt.is_signed and fmt.has_zero and 0 < fmt.mantissa_bits < layout.mantissa_bits


@triton.constexpr_function
def hardware_type(fmt: ElementFormat, layout: FloatFormat) -> tl.dtype | None:
    """Triton's type of a format whose values the device converts to and from `layout`; None if it should not."""
    is_wide = layout.exponent_bits == 8 and layout.bits <= 32
    return FP8_TYPES[fmt.name] if isinstance(fmt, HardwareFloat) and is_wide else None


@triton.constexpr_function
def encodes_in_hardware(to: Encoding, layout: FloatFormat) -> bool:
    """Whether an instruction does the rounding: to nearest even, saturating."""
    is_usual = to.rounding is Rounding.NEAREST_EVEN and to.overflow is Overflow.SATURATE
    return is_usual and isinstance(to.fmt, HardwareFloat) and layout.bits == 32


@triton.constexpr_function
def divides_by_reciprocal(to: Encoding, layout: FloatFormat) -> bool:
    """Whether codes are those of the correctly rounded quotient though it is wrong where it is tiny or huge.

    To nearest, saturating, everything below half the least positive value is zero, and the rest of the range alike. The
    interpreters of some versions of Triton round a fused product and sum twice.
    """
    if _Layouts.is_interpreted or layout.bits != 32 or to.overflow is not Overflow.SATURATE:
        return False
    if to.rounding not in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY):
        return False
    fmt = to.fmt
    if isinstance(fmt, IntFormat):
        return fmt.bits <= 32 and fmt.fraction_bits < 32
    return isinstance(fmt, FloatFormat) and fmt.is_signed and fmt.has_zero and abs(fmt.emin) < 32 and fmt.emax < 32


@triton.constexpr_function
def greatest_pattern(fmt: FloatFormat, layout: FloatFormat) -> int:
    """Pattern in `layout` of the greatest value of `fmt`."""
    mantissa = fmt.max_code & ((1 << fmt.mantissa_bits) - 1)
    field = (fmt.max_code >> fmt.mantissa_bits) - fmt.bias + layout.bias
    return (field << layout.mantissa_bits) | (mantissa << (layout.mantissa_bits - fmt.mantissa_bits))


@triton.constexpr_function
def decodes_by_product(fmt: ElementFormat, layout: FloatFormat) -> bool:
    """Whether a product of binary32 numbers moves the exponent of a code to its place, subnormals included."""
    if layout.mantissa_bits > 23 or layout.bias != 127:
        return False
    return isinstance(fmt, IntFormat) or (isinstance(fmt, FloatFormat) and fmt.has_zero and 0 <= fmt.bias <= 127)


@triton.constexpr_function
def is_multiple(extent: int, size: int) -> bool:
    """Whether `size` divides `extent`."""
    return extent % size == 0


@triton.constexpr_function
def power_of_two(exponent: int) -> float:
    """Compute `2**exponent`."""
    return 2.0**exponent


@triton.constexpr_function
def least_code(to: Encoding) -> int:
    """Least code of an integer format that is used."""
    assert isinstance(to.fmt, IntFormat)
    return -to.fmt.max_code if to.fmt.is_signed and to.int_range is IntRange.RESTRICTED else to.fmt.min_code


@triton.constexpr_function
def has_subnormals(fmt: ElementFormat, layout: FloatFormat) -> bool:
    """Whether some value of `fmt` is a subnormal of `layout`."""
    return isinstance(fmt, FloatFormat) and fmt.emin - fmt.mantissa_bits < layout.emin


@triton.constexpr_function
def scale_threshold(fmt: ElementFormat, layout: FloatFormat, rule: ScaleRule) -> int:
    """Fraction of the largest magnitude from which on a rule takes the next power of two; see `scale_exponent`."""
    width = layout.mantissa_bits
    if rule is ScaleRule.FLOOR:
        return 1 << width
    if rule is ScaleRule.CEIL:
        return 1
    if rule is ScaleRule.RCEIL:
        return int((fmt.qmax / 2.0**fmt.emax - 1) * (1 << width)) + 1
    assert rule is ScaleRule.EVEN
    precision = fmt.mantissa_bits if isinstance(fmt, FloatFormat) else fmt.max_code.bit_length() - 1
    return (1 << width) - ((1 << width) >> (precision + 1))


@triton.constexpr_function
def are_nan_blocks(specials: BlockSpecials) -> bool:
    """Whether both NaN and Inf make their block NaN."""
    return specials.are_nan_blocks


@triton.constexpr_function
def block_may_refuse(to: Encoding, specials: BlockSpecials) -> bool:
    """Whether elements of blocks can be left without a code; not where NaN is met in NaN blocks alone."""
    return may_refuse(to) and not (specials.are_nan_blocks and to.overflow is Overflow.SATURATE)


@triton.constexpr_function
def block_nan_code(fmt: BlockFormat) -> int:
    """Code of every element of a block whose scale is NaN."""
    return (fmt.element.nan_code or 0) if isinstance(fmt.element, FloatFormat) else 0


@triton.constexpr_function
def block_nan_scale(fmt: BlockFormat) -> int:
    """Code of a scale that is NaN."""
    assert fmt.scale.nan_code is not None
    return fmt.scale.nan_code


@triton.constexpr_function
def scale_encoding(fmt: BlockFormat) -> Encoding:
    """How a scale that is no power of two is rounded to its format."""
    return Encoding(fmt=fmt.scale, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.ERROR)


@triton.constexpr_function
def store_encoding(layout: FloatFormat) -> Encoding:
    """How a result is rounded to the dtype that it is stored in."""
    return Encoding(fmt=layout, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.NONSATURATE, nan=NanRule.ERROR)
