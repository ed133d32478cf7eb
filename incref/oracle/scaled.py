"""Values divided by a scale and encoded, and codes multiplied with it: scaled floats and integers.

RN rounds to nearest even in the working format: float64 for float64 values, float32 for all narrower ones.
"""

from collections.abc import Sequence

from incref.formats import ElementFormat, FloatFormat, Overflow, ScaleArithmetic
from incref.oracle.arithmetic import divide, multiply
from incref.oracle.datum import Datum, number
from incref.oracle.elements import PLAIN, ElementRules, encode_elements
from incref.oracle.encode import RandomBits, round_to
from incref.oracle.ladder import greatest

__all__ = ["dequantize", "divide_by_scale", "quantize_scaled"]


def divide_by_scale(
    x: Datum, scale: Datum, working: FloatFormat, arithmetic: ScaleArithmetic, narrow: FloatFormat | None = None
) -> Datum:
    """`RN(x / scale)` for DIVIDE, `RN(x * RN(1 / scale))` for RECIPROCAL.

    With a `narrow` format the quotient is rounded to that instead, and the other operand once more, to it.
    """
    is_division = arithmetic is ScaleArithmetic.DIVIDE
    by = scale if is_division else round_to(divide(number(1), scale), working)
    if narrow is not None:
        by = round_to(by, narrow)
    return round_to(divide(x, by) if is_division else multiply(x, by), narrow or working)


def quantize_scaled(
    xs: Sequence[Datum],
    fmt: ElementFormat,
    scale: Datum,
    working: FloatFormat,
    *,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    elements: ElementRules = PLAIN,
    random_bits: Sequence[RandomBits] | None = None,
    narrow: FloatFormat | None = None,
) -> list[int]:
    """Quantize a block of scaled floats: encode `RN(x / scale)`.

    Where only finite values saturate, a finite x counts as finite even if its quotient overflows.
    """
    quotients = [divide_by_scale(x, scale, working, arithmetic, narrow) for x in xs]
    if elements.overflow is Overflow.SATURATE_FINITE:
        largest = greatest(working)
        quotients = [
            Datum(is_negative=q.is_negative, magnitude=largest) if x.is_finite and not (q.is_finite or q.is_nan) else q
            for x, q in zip(xs, quotients, strict=True)
        ]
    return encode_elements(quotients, fmt, elements, random_bits)


def dequantize(values: Sequence[Datum], scale: Datum, working: FloatFormat, to: FloatFormat) -> list[Datum]:
    """Multiply decoded values with their scale: `RN(value * scale)` in the working format, then rounded to `to`.

    For affine integers the value is the exact difference `code - zero_point`.
    """
    return [round_to(round_to(multiply(value, scale), working), to) for value in values]
