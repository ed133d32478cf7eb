import pytest

from incref.formats import FORMATS, FloatFormat
from incref.oracle.specials import greatest_number, infinity_number, is_nan, nan_code, sign_bit


@pytest.mark.parametrize(
    ("name", "sign", "most", "infinite", "positive_nan", "negative_nan"),
    [
        ("float8_e4m3fn", 0x80, 0x7E, None, 0x7F, 0xFF),
        ("float8_e5m2", 0x80, 0x7B, 0x7C, 0x7E, 0xFE),
        ("float8_e4m3fnuz", 0x80, 0x7F, None, 0x80, 0x80),
        ("float8_e3m4", 0x80, 0x6F, 0x70, 0x78, 0xF8),
        ("float8_e8m0fnu", 0x00, 0xFE, None, 0xFF, 0xFF),
        ("float6_e3m2fn", 0x20, 0x1F, None, None, None),
        ("float4_e2m1fn", 0x8, 0x7, None, None, None),
        ("binary8p3se", 0x80, 0x7E, 0x7F, 0x80, 0x80),
        ("binary8p3sf", 0x80, 0x7F, None, 0x80, 0x80),
        ("binary8p3ue", 0x00, 0xFD, 0xFE, 0xFF, 0xFF),
        ("binary8p3uf", 0x00, 0xFE, None, 0xFF, 0xFF),
        ("float16", 0x8000, 0x7BFF, 0x7C00, 0x7E00, 0xFE00),
        ("float32", 0x80000000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0xFFC00000),
    ],
)
def test_special_codes(  # noqa: PLR0917 - a row of a table
    name: str, sign: int, most: int, infinite: int | None, positive_nan: int | None, negative_nan: int | None
) -> None:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    assert sign_bit(fmt) == sign
    assert greatest_number(fmt) == most
    assert infinity_number(fmt) == infinite
    assert nan_code(fmt, is_negative=False) == positive_nan
    # An unsigned format has no NaN with a sign.
    assert nan_code(fmt, is_negative=fmt.is_signed) == negative_nan


def test_ieee_formats_have_many_nans_and_the_others_one_or_one_of_each_sign() -> None:
    counts = {}
    for name in ("float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float4_e2m1fn", "float8_e8m0fnu", "binary8p4se"):
        fmt = FORMATS[name]
        assert isinstance(fmt, FloatFormat)
        counts[name] = sum(is_nan(code, fmt) for code in range(1 << fmt.bits))
    assert counts == {
        "float8_e5m2": 6,
        "float8_e4m3fn": 2,
        "float8_e4m3fnuz": 1,
        "float4_e2m1fn": 0,
        "float8_e8m0fnu": 1,
        "binary8p4se": 1,
    }
