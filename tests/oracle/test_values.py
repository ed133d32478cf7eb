"""Values of codes: the tables of the standards, other libraries as witnesses, and what the format table derives."""

import math
from fractions import Fraction
from functools import cache

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest

from incref.formats import FORMATS, BlockFormat, CodebookFormat, ElementFormat, FloatFormat, IntFormat
from incref.oracle.datum import Datum, Kind, datum_of, infinity
from incref.oracle.ladder import greatest
from incref.oracle.values import all_codes, decode

LISTABLE = [fmt for fmt in FORMATS.values() if not isinstance(fmt, BlockFormat) and fmt.bits <= 16]
FLOATS = [fmt for fmt in FORMATS.values() if isinstance(fmt, FloatFormat)]
NAN = "nan"


def element(name: str) -> ElementFormat:
    fmt = FORMATS[name]
    assert not isinstance(fmt, BlockFormat)
    return fmt


@cache
def data_of(fmt: ElementFormat) -> dict[int, Datum]:
    return {code: decode(code, fmt) for code in all_codes(fmt)}


def two_to(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


@pytest.mark.parametrize(
    ("name", "code", "value"),
    [
        # OCP OFP8 1.0, table 1
        ("float8_e4m3fn", 0x00, 0),
        ("float8_e4m3fn", 0x01, two_to(-9)),
        ("float8_e4m3fn", 0x07, Fraction(7, 8) * two_to(-6)),
        ("float8_e4m3fn", 0x08, two_to(-6)),
        ("float8_e4m3fn", 0x7E, 448),
        ("float8_e4m3fn", 0xFE, -448),
        ("float8_e4m3fn", 0x7F, NAN),
        ("float8_e4m3fn", 0xFF, NAN),
        ("float8_e5m2", 0x01, two_to(-16)),
        ("float8_e5m2", 0x03, Fraction(3, 4) * two_to(-14)),
        ("float8_e5m2", 0x04, two_to(-14)),
        ("float8_e5m2", 0x7B, 57344),
        ("float8_e5m2", 0x7D, NAN),
        ("float8_e5m2", 0x7E, NAN),
        ("float8_e5m2", 0x7F, NAN),
        ("float8_e5m2", 0xFD, NAN),
        # OCP MX 1.0, tables 2 to 6
        ("float6_e2m3fn", 0x01, Fraction(1, 8)),
        ("float6_e2m3fn", 0x07, Fraction(7, 8)),
        ("float6_e2m3fn", 0x08, 1),
        ("float6_e2m3fn", 0x1F, Fraction(15, 2)),
        ("float6_e2m3fn", 0x3F, Fraction(-15, 2)),
        ("float6_e3m2fn", 0x01, Fraction(1, 16)),
        ("float6_e3m2fn", 0x03, Fraction(3, 16)),
        ("float6_e3m2fn", 0x04, Fraction(1, 4)),
        ("float6_e3m2fn", 0x1F, 28),
        ("mxint8_element", 1, Fraction(1, 64)),
        ("mxint8_element", 127, Fraction(127, 64)),
        ("mxint8_element", -128, -2),
        ("float8_e8m0fnu", 0x00, two_to(-127)),
        ("float8_e8m0fnu", 0x7F, 1),
        ("float8_e8m0fnu", 0xFE, two_to(127)),
        ("float8_e8m0fnu", 0xFF, NAN),
        # arXiv 2206.02915, table 1
        ("float8_e4m3fnuz", 0x01, two_to(-10)),
        ("float8_e4m3fnuz", 0x08, two_to(-7)),
        ("float8_e4m3fnuz", 0x7F, 240),
        ("float8_e4m3fnuz", 0x80, NAN),
        ("float8_e5m2fnuz", 0x01, two_to(-17)),
        ("float8_e5m2fnuz", 0x7F, 57344),
        ("float8_e5m2fnuz", 0x80, NAN),
        # LLVM APFloat
        ("float8_e4m3", 0x77, 240),
        ("float8_e4m3", 0x79, NAN),
        ("float8_e4m3b11fnuz", 0x7F, 30),
        ("float8_e4m3b11fnuz", 0x01, two_to(-13)),
        ("float8_e3m4", 0x6F, Fraction(31, 2)),
        ("float8_e3m4", 0x01, two_to(-6)),
        # IEEE 754-2019, table 3.5
        ("float16", 0x7BFF, 65504),
        ("float16", 0x0001, two_to(-24)),
        ("float16", 0x7C01, NAN),
        ("float32", 0x7F7FFFFF, (2 - two_to(-23)) * two_to(127)),
        ("float32", 0x00000001, two_to(-149)),
        ("float64", 0x7FEFFFFFFFFFFFFF, (2 - two_to(-52)) * two_to(1023)),
        ("float64", 0x0000000000000001, two_to(-1074)),
        ("bfloat16", 0x7F7F, (2 - two_to(-7)) * two_to(127)),
        ("tf32", 0x3FBFF, (2 - two_to(-10)) * two_to(127)),
        # QLoRA, appendix E
        ("nf4", 0, -1),
        ("nf4", 7, 0),
        ("nf4", 15, 1),
        ("int4", -8, -8),
        ("uint4", 15, 15),
    ],
)
def test_codes_mean_what_the_standards_say(name: str, code: int, value: Fraction | int | str) -> None:
    found = decode(code, element(name))
    if value == NAN:
        assert found.is_nan
    else:
        assert found.value == value


@pytest.mark.parametrize(
    ("name", "code"),
    [("float8_e5m2", 0x7C), ("float8_e4m3", 0x78), ("float8_e3m4", 0x70), ("float16", 0x7C00), ("binary8p3se", 0x7F)],
)
def test_infinities(name: str, code: int) -> None:
    fmt = element(name)
    assert decode(code, fmt) == infinity()
    assert decode(code | 1 << (fmt.bits - 1), fmt) == infinity(is_negative=True)


def test_e2m1_has_these_values() -> None:
    positive = [Fraction(n, 2) for n in (0, 1, 2, 3, 4, 6, 8, 12)]
    fmt = element("float4_e2m1fn")
    assert [decode(code, fmt).value for code in range(8)] == positive
    assert [decode(code, fmt).value for code in range(8, 16)] == [-value for value in positive]
    assert decode(8, fmt) == datum_of(-0.0)


@pytest.mark.parametrize(
    ("precision", "bias", "most_extended", "most_finite", "least"),
    [
        (1, 64, two_to(62), two_to(63), two_to(-63)),
        (2, 32, two_to(31), Fraction(3, 2) * two_to(31), two_to(-32)),
        (3, 16, 49152, 57344, two_to(-17)),
        (4, 8, 224, 240, two_to(-10)),
        (5, 4, 15, Fraction(31, 2), two_to(-7)),
        (6, 2, Fraction(31, 8), Fraction(63, 16), two_to(-6)),
        (7, 1, Fraction(63, 32), Fraction(127, 64), two_to(-6)),
    ],
)
def test_signed_p3109_formats(
    precision: int, bias: int, most_extended: Fraction | int, most_finite: Fraction | int, least: Fraction
) -> None:
    """IEEE P3109 interim report 4.0: one zero, NaN at 0x80, Inf at 0x7F and 0xFF in the extended formats."""
    for kind, most in (("e", most_extended), ("f", most_finite)):
        fmt = element(f"binary8p{precision}s{kind}")
        assert isinstance(fmt, FloatFormat)
        assert fmt.bias == bias
        assert decode(0x80, fmt).is_nan
        assert decode(0x01, fmt).value == least
        assert greatest(fmt) == most
        ends = [decode(code, fmt) for code in (0x7F, 0xFF)]
        if kind == "e":
            assert ends == [infinity(), infinity(is_negative=True)]
        else:
            assert [end.value for end in ends] == [most, -most]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("binary8p3ue", 2684354560),
        ("binary8p3uf", 3221225472),
        ("binary8p4ue", 53248),
        ("binary8p4uf", 57344),
        ("binary8p5ue", 232),
        ("binary8p5uf", 240),
    ],
)
def test_unsigned_p3109_formats(name: str, most: int) -> None:
    fmt = element(name)
    assert decode(0xFF, fmt).is_nan
    assert greatest(fmt) == most
    assert (decode(0xFE, fmt) == infinity()) == name.endswith("e")


@pytest.mark.parametrize("fmt", LISTABLE, ids=lambda fmt: fmt.name)
def test_the_format_table_derives_the_same_values(fmt: ElementFormat) -> None:
    codes = range(fmt.num_codes) if isinstance(fmt, FloatFormat | CodebookFormat) else all_codes(fmt)
    data = data_of(fmt)
    for code in codes:
        assert datum_of(fmt.value(code)) == data[code], code
    order = [*(code for code in codes if code >= 0), *(code for code in codes if code < 0)]
    assert list(fmt.values) == pytest.approx([fmt.value(code) for code in order], abs=0, rel=0, nan_ok=True)


@pytest.mark.parametrize("fmt", LISTABLE, ids=lambda fmt: fmt.name)
def test_the_format_table_derives_the_same_limits(fmt: ElementFormat) -> None:
    data = data_of(fmt)
    values = sorted({datum.value for datum in data.values() if datum.is_finite})
    assert (Fraction(fmt.qmin), Fraction(fmt.qmax)) == (values[0], values[-1])
    assert data[fmt.max_code].value == values[-1] == greatest(fmt)
    assert fmt.num_values == len(values)
    assert Fraction(fmt.smallest_positive) == min(value for value in values if value > 0)
    assert Fraction(2) ** fmt.emax <= values[-1] < Fraction(2) ** (fmt.emax + 1)


@pytest.mark.parametrize("fmt", [fmt for fmt in FLOATS if fmt.bits <= 16], ids=lambda fmt: fmt.name)
def test_the_format_table_derives_the_same_specials(fmt: FloatFormat) -> None:
    data = data_of(fmt)
    nans = [code for code, datum in data.items() if datum.is_nan]
    assert [code for code in data if fmt.is_nan(code)] == nans
    assert fmt.nan_code in nans if nans else fmt.nan_code is None
    assert fmt.has_signed_nan == any(data[code].is_negative for code in nans)
    assert fmt.inf_code == next((code for code, datum in data.items() if datum == infinity()), None)
    zeros = [datum for datum in data.values() if datum.is_finite and datum.magnitude == 0]
    assert fmt.has_zero == (datum_of(0.0) in zeros)
    assert fmt.has_negative_zero == (datum_of(-0.0) in zeros)


@pytest.mark.parametrize("fmt", [fmt for fmt in FLOATS if fmt.bits <= 16], ids=lambda fmt: fmt.name)
def test_the_format_table_derives_the_same_exponents(fmt: FloatFormat) -> None:
    """The normal values begin where the relative step is 2**-mantissa_bits."""
    normal = Fraction(2) ** fmt.emin
    assert Fraction(fmt.smallest_normal) == normal
    positive = sorted({datum.magnitude for datum in data_of(fmt).values() if datum.is_finite} - {0})
    first = positive.index(normal)
    assert positive[first + 1] - normal == normal / (1 << fmt.mantissa_bits)
    if fmt.smallest_subnormal is None:
        assert positive[0] == normal
    else:
        assert Fraction(fmt.smallest_subnormal) == positive[0] < normal


@pytest.mark.parametrize("fmt", [fmt for fmt in FLOATS if fmt.bits > 16], ids=lambda fmt: fmt.name)
def test_wide_formats_agree_at_the_edges(fmt: FloatFormat) -> None:
    assert Fraction(fmt.qmax) == greatest(fmt) == decode(fmt.max_code, fmt).value
    assert decode(fmt.max_code + 1, fmt) == infinity()
    assert fmt.nan_code is not None
    assert decode(fmt.nan_code, fmt).is_nan
    assert decode(fmt.nan_code | fmt.sign_code, fmt) == Datum(kind=Kind.NAN, is_negative=True)
    assert Fraction(fmt.smallest_positive) == decode(1, fmt).value


ML_DTYPES = {
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "float8_e3m4": ml_dtypes.float8_e3m4,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
    "float6_e2m3fn": ml_dtypes.float6_e2m3fn,
    "float6_e3m2fn": ml_dtypes.float6_e3m2fn,
    "float4_e2m1fn": ml_dtypes.float4_e2m1fn,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_ml_dtypes_decodes_alike(name: str) -> None:
    fmt = element(name)
    codes = np.arange(1 << fmt.bits, dtype=np.uint16 if fmt.bits == 16 else np.uint8)
    # The conversion of a signalling NaN is reported as invalid.
    with np.errstate(invalid="ignore"):
        witness = codes.view(ML_DTYPES[name]).astype(np.float64)
    for code, value in zip(codes.tolist(), witness.tolist(), strict=True):
        found = decode(code, fmt)
        assert found.is_nan if math.isnan(value) else found == datum_of(value), code


GFLOAT = {
    "float8_e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "float8_e5m2": gfloat.formats.format_info_ocp_e5m2,
    "float6_e2m3fn": gfloat.formats.format_info_ocp_e2m3,
    "float6_e3m2fn": gfloat.formats.format_info_ocp_e3m2,
    "float4_e2m1fn": gfloat.formats.format_info_ocp_e2m1,
    "float8_e8m0fnu": gfloat.formats.format_info_ocp_e8m0,
}


@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat_decodes_alike(name: str) -> None:
    fmt = element(name)
    for code in all_codes(fmt):
        witness, found = gfloat.decode_float(GFLOAT[name], code).fval, decode(code, fmt)
        assert found.is_nan if math.isnan(witness) else found == datum_of(witness), code


@pytest.mark.parametrize(
    ("name", "code"), [("float8_e4m3fn", 256), ("float8_e4m3fn", -1), ("int8", 128), ("nf4", 16), ("uint4", -1)]
)
def test_only_codes_of_the_format_are_taken(name: str, code: int) -> None:
    with pytest.raises(ValueError, match=f"{name} has the codes"):
        decode(code, element(name))


def test_integers_have_a_binary_point() -> None:
    fmt = element("mxint8_element")
    assert isinstance(fmt, IntFormat)
    assert [decode(code, fmt).value for code in (-65, 32)] == [Fraction(-65, 64), Fraction(1, 2)]
