"""Scales and zero points of scaled integers and floats, one rounding a step.

RN rounds to nearest even in the working format: float64 for float64 values, float32 for all narrower ones.
"""

from collections.abc import Sequence
from fractions import Fraction

from incref.formats import ElementFormat, FloatFormat, IntFormat, ScaleRule, SymmetricScale
from incref.oracle.arithmetic import divide, multiply
from incref.oracle.blocks import amax_of
from incref.oracle.datum import NAN, Datum, number
from incref.oracle.encode import round_to
from incref.oracle.ladder import greatest, ladder
from incref.oracle.powers import power_of_two

__all__ = ["asymmetric_scale", "extreme_of", "least_scale", "symmetric_scale"]


def least_scale(working: FloatFormat) -> Fraction:
    """The smallest scale that is ever given: the smallest normal value, whose reciprocal is finite."""
    return power_of_two(1 - working.bias)


def symmetric_scale(
    xs: Sequence[Datum],
    fmt: ElementFormat,
    working: FloatFormat,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    kind: SymmetricScale = SymmetricScale.QMAX,
) -> Datum:
    """Scale of a block whose zero is code 0: `RN(amax / q)` for DIVIDE, `RN(amax * RN(1 / q))` for RECIPROCAL.

    Args:
        xs: its elements.
        fmt: the format quantized into.
        working: the working format.
        rule: DIVIDE or RECIPROCAL.
        kind: what q is, for an integer of b bits: the greatest value, `(2**b - 1) / 2`, or `2**(b - 1)` with the sign
            of the scale against that of the extreme. Always the greatest value for the others.

    Returns:
        A value of `working`: NaN if an element is NaN or Inf, 1 if amax is 0, else of a magnitude that is at least
        `least_scale`.

    >>> from incref.formats import FORMATS
    >>> from incref.oracle.datum import datum_of
    >>> symmetric_scale([datum_of(254.0)], FORMATS["int8"], FORMATS["float32"]).value
    Fraction(2, 1)
    """
    if not all(x.is_finite for x in xs):
        return NAN
    amax = amax_of(xs)
    if amax == 0:
        return number(1)
    scale = _scale(number(amax), _grid_end(fmt, kind), rule, working)
    is_negative = kind is SymmetricScale.EXTREME and isinstance(fmt, IntFormat) and not extreme_of(xs).is_negative
    return Datum(is_negative=is_negative, magnitude=scale.magnitude)


def extreme_of(xs: Sequence[Datum]) -> Datum:
    """The element of largest magnitude; the negative one if two are equal."""
    return max(xs, key=lambda x: (x.magnitude, x.is_negative))


def asymmetric_scale(
    xs: Sequence[Datum], fmt: IntFormat, working: FloatFormat, *, rule: ScaleRule = ScaleRule.DIVIDE
) -> tuple[Datum, int]:
    """Scale and zero point of a block whose codes span its range, zero included.

    With `lo = min(0, min(xs))` and `hi = max(0, max(xs))`, `s = RN(RN(hi - lo) / (2**b - 1))` or, with the reciprocal,
    `RN(RN(hi - lo) * RN(1 / (2**b - 1)))`, and `z = clamp(RNE(RN(-lo / s)) + least code)`. A span beyond the working
    format counts as its largest value.

    Returns:
        `(s, z)`: NaN and the least code if an element is NaN or Inf; s is 1 if `hi == lo`, else at least `least_scale`.
    """
    codes = ladder(fmt, is_negative=False).codes
    if not all(x.is_finite for x in xs):
        return NAN, codes[0]
    values = [x.value for x in xs]
    lo, hi = min([Fraction(0), *values]), max([Fraction(0), *values])
    span = round_to(number(hi - lo), working)
    if not span.is_finite:
        span = number(greatest(working))
    scale = number(1) if hi == lo else _scale(span, Fraction(len(codes) - 1), rule, working)
    # A Fraction is rounded to the nearest integer, ties to the even one.
    zero_point = round(round_to(divide(number(-lo), scale), working).value) + codes[0]
    return scale, min(max(zero_point, codes[0]), codes[-1])


def _grid_end(fmt: ElementFormat, kind: SymmetricScale) -> Fraction:
    """The number on which amax falls."""
    if not isinstance(fmt, IntFormat) or kind is SymmetricScale.QMAX:
        return greatest(fmt)
    steps = Fraction(1 << (fmt.bits - 1))
    if kind is SymmetricScale.SPAN:
        steps -= Fraction(1, 2)
    return steps * power_of_two(-fmt.fraction_bits)


def _scale(size: Datum, end: Fraction, rule: ScaleRule, working: FloatFormat) -> Datum:
    if rule is ScaleRule.DIVIDE:
        scale = round_to(number(size.magnitude / end), working)
    else:
        scale = round_to(multiply(size, round_to(number(1 / end), working)), working)
    return number(max(scale.magnitude, least_scale(working)))
