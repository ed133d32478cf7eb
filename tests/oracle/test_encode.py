"""Encoding: exact cases from the standards, brute force over all values, and other libraries as witnesses."""

import math
import struct
from fractions import Fraction
from functools import cache

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incref.errors import NanError
from incref.formats import FORMATS, BlockFormat, ElementFormat, FloatFormat, IntRange, NanRule, Overflow, Rounding
from incref.oracle.datum import Datum, Kind, datum_of, infinity, number
from incref.oracle.encode import RandomBits, encode, round_to
from incref.oracle.values import all_codes, decode

NARROW = [fmt for fmt in FORMATS.values() if not isinstance(fmt, BlockFormat) and fmt.bits <= 8]
DETERMINISTIC = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
NEGATIVE_NAN = Datum(kind=Kind.NAN, is_negative=True)
POSITIVE_NAN = Datum(kind=Kind.NAN)


def element(name: str) -> ElementFormat:
    fmt = FORMATS[name]
    assert not isinstance(fmt, BlockFormat)
    return fmt


def floating(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


@pytest.mark.parametrize(
    ("name", "x", "code"),
    [
        # A tie goes to the even code: 448 is 0x7E, the next value would be 0x7F.
        ("float8_e4m3fn", 464.0, 0x7E),
        ("float8_e4m3fn", math.nextafter(464.0, 500.0), 0x7F),
        ("float8_e5m2", math.nextafter(61440.0, 0.0), 0x7B),
        ("float8_e5m2", 61440.0, 0x7C),
        ("float8_e4m3fnuz", math.nextafter(248.0, 0.0), 0x7F),
        ("float8_e4m3fnuz", 248.0, 0x80),
        ("float8_e4m3", 248.0, 0x78),
        ("float8_e3m4", 15.75, 0x70),
        ("float8_e4m3b11fnuz", 31.0, 0x80),
        ("float16", 65520.0, 0x7C00),
        ("float16", math.nextafter(65520.0, 0.0), 0x7BFF),
        ("bfloat16", math.ldexp(1 + 1 / 256, 0), 0x3F80),
        ("bfloat16", math.ldexp(1 + 3 / 256, 0), 0x3F82),
        # Half the least subnormal is a tie between 0 and it.
        ("float8_e4m3fn", -(2.0**-10), 0x80),
        ("float8_e4m3fn", math.nextafter(2.0**-10, 1.0), 0x01),
        ("float8_e4m3fnuz", -(2.0**-11), 0x00),
        # E8M0 ties: 3 lies between 2 (0x80) and 4 (0x81), 1.5 * 2**127 between 0xFE and NaN.
        ("float8_e8m0fnu", 3.0, 0x80),
        ("float8_e8m0fnu", 6.0, 0x82),
        ("float8_e8m0fnu", math.ldexp(1.5, 127), 0xFE),
        ("float8_e8m0fnu", math.ldexp(1.0, -128), 0x00),
        ("float8_e8m0fnu", math.nextafter(math.ldexp(1.0, -128), 0.0), 0xFF),
        ("float8_e8m0fnu", -1.0, 0xFF),
        ("float8_e8m0fnu", 0.0, 0xFF),
        ("binary8p1se", 3.0, 0x42),
        ("binary8p4ue", -1.0, 0xFF),
        ("binary8p4ue", -(2.0**-20), 0x00),
        ("binary8p4uf", 1e9, 0xFF),
        ("binary8p4ue", 1e9, 0xFE),
    ],
)
def test_rounds_first_and_overflows_afterwards(name: str, x: float, code: int) -> None:
    assert encode(datum_of(x), element(name), overflow=Overflow.NONSATURATE) == code


@pytest.mark.parametrize(
    ("name", "x", "overflow", "code"),
    [
        ("float8_e4m3fn", math.inf, Overflow.SATURATE, 0x7E),
        ("float8_e4m3fn", -math.inf, Overflow.SATURATE, 0xFE),
        ("float8_e4m3fn", -math.inf, Overflow.SATURATE_FINITE, 0xFF),
        ("float8_e4m3fn", -1e9, Overflow.SATURATE_FINITE, 0xFE),
        ("float8_e4m3fn", -1e9, Overflow.NONSATURATE, 0xFF),
        ("float8_e5m2", math.inf, Overflow.SATURATE, 0x7B),
        ("float8_e5m2", -math.inf, Overflow.SATURATE_FINITE, 0xFC),
        ("float8_e5m2", -1e9, Overflow.SATURATE_FINITE, 0xFB),
        ("float8_e5m2", -1e9, Overflow.NONSATURATE, 0xFC),
        ("float8_e8m0fnu", math.inf, Overflow.SATURATE, 0xFE),
        ("float8_e8m0fnu", -math.inf, Overflow.SATURATE, 0x00),
        ("float8_e8m0fnu", -0.0, Overflow.SATURATE_FINITE, 0x00),
        ("binary8p4ue", -math.inf, Overflow.SATURATE_FINITE, 0xFF),
        ("binary8p4ue", math.inf, Overflow.NONSATURATE, 0xFE),
        ("int8", 1e9, Overflow.SATURATE, 127),
        ("int8", -math.inf, Overflow.SATURATE, -128),
        ("uint8", -3.0, Overflow.SATURATE, 0),
        ("nf4", 7.0, Overflow.SATURATE, 15),
    ],
)
def test_overflow_modes(name: str, x: float, overflow: Overflow, code: int) -> None:
    assert encode(datum_of(x), element(name), overflow=overflow) == code


@pytest.mark.parametrize("x", [450.0, 1e9])
@pytest.mark.parametrize(
    ("rounding", "sign"),
    [
        (Rounding.TOWARD_ZERO, 1),
        (Rounding.TOWARD_ZERO, -1),
        (Rounding.TOWARD_NEGATIVE, 1),
        (Rounding.TOWARD_POSITIVE, -1),
    ],
)
def test_a_float_rounded_toward_zero_stays_finite(rounding: Rounding, sign: int, x: float) -> None:
    """IEEE 754-2019, 7.4, (b) to (d)."""
    code = encode(datum_of(sign * x), element("float8_e4m3fn"), rounding=rounding, overflow=Overflow.NONSATURATE)
    assert code == (0x7E if sign > 0 else 0xFE)


def test_an_integer_rounded_toward_zero_does_not_stay_in_range() -> None:
    """IEEE 754-2019, 7.1, (j): a conversion to an integer that does not fit is invalid."""
    options = {"rounding": Rounding.TOWARD_ZERO, "overflow": Overflow.NONSATURATE}
    assert encode(datum_of(127.9), element("int8"), nan=NanRule.ZERO, **options) == 127
    assert encode(datum_of(128.1), element("int8"), nan=NanRule.ZERO, **options) == 0


@pytest.mark.parametrize(
    ("name", "x", "code"),
    [
        ("float8_e4m3fn", NEGATIVE_NAN, 0xFF),
        ("float8_e5m2", POSITIVE_NAN, 0x7E),
        ("float8_e5m2", NEGATIVE_NAN, 0xFE),
        ("float8_e4m3fnuz", POSITIVE_NAN, 0x80),
        ("float8_e4m3fnuz", NEGATIVE_NAN, 0x80),
        ("float8_e8m0fnu", NEGATIVE_NAN, 0xFF),
        ("binary8p3se", NEGATIVE_NAN, 0x80),
        ("binary8p3uf", POSITIVE_NAN, 0xFF),
        ("float16", NEGATIVE_NAN, 0xFE00),
        ("float32", POSITIVE_NAN, 0x7FC00000),
        ("bfloat16", POSITIVE_NAN, 0x7FC0),
    ],
)
def test_nan_becomes_the_canonical_one(name: str, x: Datum, code: int) -> None:
    assert encode(x, element(name)) == code


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize(
    ("name", "int_range", "ends", "zero"),
    [
        ("float4_e2m1fn", IntRange.FULL, (0x7, 0xF), 0x0),
        ("float6_e3m2fn", IntRange.FULL, (0x1F, 0x3F), 0x0),
        ("int4", IntRange.FULL, (7, -8), 0),
        ("int4", IntRange.RESTRICTED, (7, -7), 0),
        ("uint4", IntRange.FULL, (15, 0), 0),
        ("nf4", IntRange.FULL, (15, 0), 7),
    ],
)
def test_nan_rules(name: str, int_range: IntRange, ends: tuple[int, int], zero: int, overflow: Overflow) -> None:
    fmt = element(name)
    for nan, wanted in ((NanRule.MAX, ends), (NanRule.ZERO, (zero, zero))):
        found = [encode(x, fmt, nan=nan, int_range=int_range, overflow=overflow) for x in (POSITIVE_NAN, NEGATIVE_NAN)]
        assert tuple(found) == wanted
    with pytest.raises(NanError, match=f"{name} has no NaN"):
        encode(POSITIVE_NAN, fmt, overflow=overflow)


@pytest.mark.parametrize("name", ["float4_e2m1fn", "int4", "nf4"])
@pytest.mark.parametrize(("x", "overflow"), [(1e9, Overflow.NONSATURATE), (-math.inf, Overflow.SATURATE_FINITE)])
def test_what_overflows_without_inf_and_nan_follows_the_nan_rule(name: str, x: float, overflow: Overflow) -> None:
    zero = encode(datum_of(0.0), element(name))
    assert encode(datum_of(x), element(name), overflow=overflow, nan=NanRule.ZERO) == zero
    with pytest.raises(NanError):
        encode(datum_of(x), element(name), overflow=overflow)


@pytest.mark.parametrize(
    ("name", "code"), [("float8_e4m3fn", 0x80), ("float4_e2m1fn", 0x8), ("float8_e5m2fnuz", 0), ("int8", 0), ("nf4", 7)]
)
def test_zero_keeps_its_sign_where_it_can(name: str, code: int) -> None:
    assert encode(datum_of(-0.0), element(name)) == code
    tiny = number(Fraction(-1, 10**9))
    assert encode(tiny, element(name)) == code


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("fmt", NARROW, ids=lambda fmt: fmt.name)
def test_every_value_encodes_as_itself(fmt: ElementFormat, rounding: Rounding) -> None:
    for code in all_codes(fmt):
        x = decode(code, fmt)
        found = encode(x, fmt, rounding=rounding, overflow=Overflow.NONSATURATE)
        # Of several NaNs one is canonical.
        assert decode(found, fmt) == x if x.is_nan else found == code


@cache
def finite_values(fmt: ElementFormat) -> list[Fraction]:
    return sorted({datum.value for code in all_codes(fmt) if (datum := decode(code, fmt)).is_finite})


@st.composite
def between_values(draw: st.DrawFn) -> tuple[ElementFormat, Fraction]:
    """A format and a number in its range: a value, a midpoint, or a number near one of these."""
    fmt = draw(st.sampled_from(NARROW))
    values = finite_values(fmt)
    low = draw(st.integers(0, len(values) - 2))
    part = draw(st.sampled_from([0, 1, Fraction(1, 2), Fraction(1, 3)]))
    near = draw(st.sampled_from([0, Fraction(1, 10**12), Fraction(-1, 10**12)]))
    return fmt, values[low] + (values[low + 1] - values[low]) * min(max(part + near, Fraction(0)), Fraction(1))


@given(between_values())
def test_nearest_is_really_nearest(case: tuple[ElementFormat, Fraction]) -> None:
    fmt, x = case
    distances = {value: abs(value - x) for value in finite_values(fmt)}
    nearest = [value for value, distance in distances.items() if distance == min(distances.values())]
    code = encode(number(x), fmt)
    assert decode(code, fmt).value in nearest
    if len(nearest) > 1:
        assert code % 2 == 0
        away = decode(encode(number(x), fmt, rounding=Rounding.NEAREST_AWAY), fmt)
        assert away.magnitude == max(abs(value) for value in nearest)


@given(between_values())
def test_directed_modes_give_the_neighbours(case: tuple[ElementFormat, Fraction]) -> None:
    fmt, x = case
    below = max(value for value in finite_values(fmt) if value <= x)
    above = min(value for value in finite_values(fmt) if value >= x)

    def rounded(rounding: Rounding) -> Fraction:
        return decode(encode(number(x), fmt, rounding=rounding), fmt).value

    assert rounded(Rounding.TOWARD_NEGATIVE) == below
    assert rounded(Rounding.TOWARD_POSITIVE) == above
    assert rounded(Rounding.TOWARD_ZERO) == (below if x >= 0 else above)


@given(
    fmt=st.sampled_from(NARROW),
    rounding=st.sampled_from(DETERMINISTIC),
    xs=st.lists(st.floats(allow_nan=False), min_size=2, max_size=2).map(sorted),
)
def test_encoding_is_monotone(fmt: ElementFormat, rounding: Rounding, xs: list[float]) -> None:
    low, high = (decode(encode(datum_of(x), fmt, rounding=rounding), fmt).value for x in xs)
    assert low <= high


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("x", [1.0625, -1.0625, 1.09, 2.0**-12, 455.0, -3.5, 448.0])
def test_stochastic_rounding_goes_up_for_the_right_share_of_random_numbers(x: float, width: int) -> None:
    fmt = element("float8_e4m3fn")
    toward_zero = decode(encode(datum_of(x), fmt, rounding=Rounding.TOWARD_ZERO), fmt).magnitude
    step = (
        Fraction(32)
        if toward_zero == 448
        else decode(encode(number(toward_zero), fmt) + 1, fmt).magnitude - toward_zero
    )
    share = (abs(Fraction(x)) - toward_zero) / step
    ups = 0
    for value in range(1 << width):
        bits = RandomBits(value=value, width=width)
        code = encode(datum_of(x), fmt, rounding=Rounding.STOCHASTIC, overflow=Overflow.NONSATURATE, random_bits=bits)
        ups += decode(code, fmt).is_nan or decode(code, fmt).magnitude > toward_zero
    assert ups == share * (1 << width) // 1


def test_random_bits_belong_to_stochastic_rounding() -> None:
    fmt = element("float8_e4m3fn")
    with pytest.raises(ValueError, match="random_bits belong to"):
        encode(datum_of(1.0), fmt, random_bits=RandomBits(value=0, width=8))
    with pytest.raises(ValueError, match="random_bits belong to"):
        encode(datum_of(1.0), fmt, rounding=Rounding.STOCHASTIC)
    with pytest.raises(ValueError, match="R must be"):
        RandomBits(value=256, width=8)


@given(x=st.fractions(max_denominator=10**40))
def test_float64_is_rounded_as_python_rounds_fractions(x: Fraction) -> None:
    assert round_to(number(x), floating("float64")).value == Fraction(float(x))


@given(x=st.floats(allow_nan=False, allow_infinity=False))
def test_float32_and_float16_are_rounded_as_numpy_rounds(x: float) -> None:
    with np.errstate(over="ignore", under="ignore"):
        single, half = np.float32(x), np.float16(x)
    assert encode(datum_of(x), floating("float32"), overflow=Overflow.NONSATURATE) == int(single.view(np.uint32))
    assert encode(datum_of(x), floating("float16"), overflow=Overflow.NONSATURATE) == int(half.view(np.uint16))


ML_DTYPES = {
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "float8_e3m4": ml_dtypes.float8_e3m4,
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_ml_dtypes_encodes_alike(name: str) -> None:
    """Every fifth bfloat16 value, which takes in every exponent and every low bit."""
    fmt = element(name)
    sources = np.arange(0, 1 << 16, 5, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float32)
    sources = sources[~np.isnan(sources)]
    witness = sources.astype(ML_DTYPES[name]).view(np.uint8)
    for x, code in zip(sources.tolist(), witness.tolist(), strict=True):
        assert encode(datum_of(x), fmt, overflow=Overflow.NONSATURATE) == code, x


GFLOAT = {
    "float8_e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "float8_e5m2": gfloat.formats.format_info_ocp_e5m2,
    "float6_e3m2fn": gfloat.formats.format_info_ocp_e3m2,
}
GFLOAT_MODES = {
    Rounding.NEAREST_EVEN: gfloat.RoundMode.TiesToEven,
    Rounding.NEAREST_AWAY: gfloat.RoundMode.TiesToAway,
    Rounding.TOWARD_ZERO: gfloat.RoundMode.TowardZero,
    Rounding.TOWARD_POSITIVE: gfloat.RoundMode.TowardPositive,
    Rounding.TOWARD_NEGATIVE: gfloat.RoundMode.TowardNegative,
}


@pytest.mark.parametrize("rounding", GFLOAT_MODES)
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat_rounds_alike(name: str, rounding: Rounding) -> None:
    """Every 37th float16 value in every mode, with and, where there are specials, without saturation."""
    fmt = element(name)
    for pattern in range(0, 1 << 16, 37):
        (x,) = struct.unpack("<e", pattern.to_bytes(2, "little"))
        for saturates in (True, False) if FORMATS[name].bits == 8 else (True,):
            if not math.isfinite(x):
                continue
            witness = gfloat.round_float(GFLOAT[name], x, GFLOAT_MODES[rounding], sat=saturates)
            overflow = Overflow.SATURATE if saturates else Overflow.NONSATURATE
            found = decode(encode(datum_of(x), fmt, rounding=rounding, overflow=overflow), fmt)
            assert found.is_nan if math.isnan(witness) else found == datum_of(witness), x


def test_round_to_overflows_as_ieee_754_arithmetic_does() -> None:
    assert round_to(number(10**40), floating("float32")) == infinity()
    assert round_to(number(-(10**40)), floating("float32"), Rounding.TOWARD_ZERO).value == -Fraction(
        float(np.finfo(np.float32).max)
    )
