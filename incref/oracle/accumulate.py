"""Dot products whose sums are rounded on the way: in float32 one by one, or in groups cut off to a common grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from incref.formats import FORMATS, FloatFormat, Rounding
from incref.oracle.affine import round_to_integer
from incref.oracle.arithmetic import multiply
from incref.oracle.datum import Datum, infinity, number
from incref.oracle.dot import exact_sum
from incref.oracle.encode import round_to
from incref.oracle.powers import floor_log2, power_of_two

__all__ = ["FixedPoint", "add_fixed_point", "add_in_order"]


def _binary32() -> FloatFormat:
    fmt = FORMATS["float32"]
    assert isinstance(fmt, FloatFormat)
    return fmt


_FLOAT32 = _binary32()


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """How one group of terms is added; the words are those of `incref.numerics.accumulate.models.Aligned`.

    `carry_bits` is None unless what is carried is realigned with the sum of the products; `adds_carried` is for an
    addition after the sum of the products was rounded, `joins_carried` for one before.
    """

    fraction_bits: int
    result_bits: int
    term_rounding: Rounding
    result_rounding: Rounding
    by_product: bool
    adds_carried: bool
    carry_bits: int | None
    flushes: bool
    least_exponent: int
    joins_carried: bool = False


def add_fixed_point(
    a: Sequence[Datum], b: Sequence[Datum], formats: tuple[FloatFormat, FloatFormat], carried: Datum, how: FixedPoint
) -> Datum:
    """Add the products of one group to `carried`, as fixed-point numbers.

    Args:
        a: left factors, values of the first format.
        b: right factors, as many, values of the second.
        formats: of the factors; a subnormal has the exponent of the smallest normal value.
        carried: a value of float32.
        how: where terms and sum are cut off.

    Returns:
        A value of float32.

    >>> big, small = number(1), number(Fraction(1, 1 << 14))
    >>> e5m2, how = FORMATS["float8_e5m2"], FixedPoint(
    ...     fraction_bits=13, result_bits=13, term_rounding=Rounding.TOWARD_ZERO, result_rounding=Rounding.TOWARD_ZERO,
    ...     by_product=False, adds_carried=False, carry_bits=None, flushes=False, least_exponent=-126)
    >>> add_fixed_point([big, small], [big, big], (e5m2, e5m2), number(0), how).value
    Fraction(1, 1)
    """
    products = [multiply(x, y) for x, y in zip(a, b, strict=True)]
    special = exact_sum([*products, carried])
    if not (special.is_finite and all(term.is_finite for term in products)):
        return special
    exponents = [
        floor_log2(product.magnitude) if how.by_product else _exponent(x, formats[0]) + _exponent(y, formats[1])
        for x, y, product in zip(a, b, products, strict=True)
        if product.magnitude
    ]
    stays_out = how.adds_carried or how.joins_carried or how.carry_bits is not None
    terms = products if stays_out else [*products, carried]
    if carried.magnitude and not stays_out:
        exponents.append(floor_log2(carried.magnitude))
    top = max([*exponents, how.least_exponent])
    unit = power_of_two(top - how.fraction_bits)
    total = unit * sum(round_to_integer(term.value / unit, how.term_rounding) for term in terms)
    if how.carry_bits is not None:
        both = max(top, floor_log2(carried.magnitude)) if carried.magnitude else top
        finer, coarser = power_of_two(both - how.carry_bits), power_of_two(both - how.fraction_bits)
        total = finer * (total // finer) + coarser * (carried.value // coarser)
    if how.joins_carried:
        total += carried.value
    found = _to_result(total, how)
    return round_to(exact_sum([found, carried]), _FLOAT32) if how.adds_carried else found


def _exponent(x: Datum, fmt: FloatFormat) -> int:
    return max(floor_log2(x.magnitude), 1 - fmt.bias)


def _to_result(total: Fraction, how: FixedPoint) -> Datum:
    """Round to so many fraction bits and the exponents of float32."""
    if total == 0:
        return number(0)
    exponent = max(floor_log2(abs(total)), 1 - _FLOAT32.bias)
    step = power_of_two(exponent - how.result_bits)
    rounded = step * round_to_integer(total / step, how.result_rounding)
    if how.flushes and abs(rounded) < power_of_two(1 - _FLOAT32.bias):
        return number(0)
    if abs(rounded) >= power_of_two(_FLOAT32.bias + 1):
        return infinity(is_negative=rounded < 0)
    return number(rounded)


def add_in_order(a: Sequence[Datum], b: Sequence[Datum], carried: Datum, *, is_fused: bool) -> Datum:
    """Add products to `carried` one by one, each sum rounded to float32, and each product before it unless fused.

    A sum that is exactly zero is +0, unless both terms are -0 (IEEE 754-2019, 6.3).
    """
    for x, y in zip(a, b, strict=True):
        product = multiply(x, y) if is_fused else round_to(multiply(x, y), _FLOAT32)
        both = (product, carried)
        if all(term.is_finite and term.magnitude == 0 and term.is_negative for term in both):
            continue
        carried = round_to(exact_sum(both), _FLOAT32)
    return carried
