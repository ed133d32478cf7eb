from bisect import bisect_right
from fractions import Fraction

import pytest

from incref.formats import FORMATS, BlockFormat, CodebookFormat, ElementFormat, FloatFormat, IntFormat, IntRange
from incref.oracle.ladder import greatest, ladder
from incref.oracle.values import all_codes, decode

NARROW = [fmt for fmt in FORMATS.values() if not isinstance(fmt, BlockFormat) and fmt.bits <= 8]
WIDE = [FORMATS[name] for name in ("tf32", "float32", "float64")]


@pytest.mark.parametrize("is_negative", [False, True])
@pytest.mark.parametrize("fmt", NARROW, ids=lambda fmt: fmt.name)
def test_every_finite_code_is_a_rung_with_its_magnitude(fmt: ElementFormat, *, is_negative: bool) -> None:
    rungs = ladder(fmt, is_negative=is_negative)
    found = {}
    for rung, magnitude in enumerate(rungs.magnitudes):
        code = rungs.code(rung)
        if code is not None:
            found[code] = magnitude * Fraction(2) ** rungs.exponent
    codes = [code for code in all_codes(fmt) if decode(code, fmt).is_finite]
    wanted = {code: decode(code, fmt).magnitude for code in codes if decode(code, fmt).is_negative == is_negative}
    # Where there is no -0, the zero of the negative ladder is the other one.
    zero = {code: Fraction(0) for code in found if found[code] == 0}
    assert found == wanted | zero


@pytest.mark.parametrize("fmt", NARROW, ids=lambda fmt: fmt.name)
def test_rungs_ascend_from_zero(fmt: ElementFormat) -> None:
    magnitudes = list(ladder(fmt, is_negative=False).magnitudes)
    assert magnitudes[0] == 0
    assert magnitudes == sorted(set(magnitudes))


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("float8_e4m3fn", 480),
        ("float8_e5m2", 65536),
        ("float8_e4m3fnuz", 256),
        ("float6_e2m3fn", 8),
        ("float6_e3m2fn", 32),
        ("float4_e2m1fn", 8),
        ("float8_e8m0fnu", 1 << 128),
        ("int8", 128),
        ("uint4", 16),
        ("binary8p4se", 240),
        ("binary8p4sf", 256),
    ],
)
def test_the_last_rung_is_the_first_value_beyond_the_range(name: str, beyond: int) -> None:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat | IntFormat)
    rungs = ladder(fmt, is_negative=False)
    assert rungs.magnitudes[-1] * Fraction(2) ** rungs.exponent == beyond
    assert rungs.code(len(rungs.magnitudes) - 1) is None


@pytest.mark.parametrize(("int_range", "least"), [(IntRange.FULL, -8), (IntRange.RESTRICTED, -7)])
def test_integers_end_where_their_range_does(int_range: IntRange, least: int) -> None:
    fmt = FORMATS["int4"]
    assert isinstance(fmt, IntFormat)
    rungs = ladder(fmt, is_negative=True, int_range=int_range)
    codes = [rungs.code(rung) for rung in range(len(rungs.magnitudes))]
    assert codes == [*range(0, least - 1, -1), None]


def test_zero_counts_as_odd_where_e8m0_has_none() -> None:
    fmt = FORMATS["float8_e8m0fnu"]
    assert isinstance(fmt, FloatFormat)
    rungs = ladder(fmt, is_negative=False)
    assert [rungs.code(rung) for rung in range(3)] == [None, 0, 1]
    assert [rungs.is_even(rung) for rung in range(3)] == [False, True, False]


@pytest.mark.parametrize("fmt", WIDE, ids=lambda fmt: fmt.name)
def test_wide_formats_compute_rungs_when_asked(fmt: FloatFormat) -> None:
    rungs = ladder(fmt, is_negative=False)
    last = len(rungs.magnitudes) - 2
    for code in (0, 1, (1 << fmt.mantissa_bits) - 1, 1 << fmt.mantissa_bits, last // 2, last):
        assert rungs.magnitudes[code] * Fraction(2) ** rungs.exponent == decode(code, fmt).magnitude
    assert list(rungs.magnitudes[:3]) == [0, 1, 2]
    with pytest.raises(IndexError):
        rungs.magnitudes[len(rungs.magnitudes)]


def test_greatest_of_a_codebook() -> None:
    fmt = FORMATS["nf4"]
    assert isinstance(fmt, CodebookFormat)
    assert greatest(fmt) == 1


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_the_rung_below_is_what_a_search_finds(name: str) -> None:
    rungs = ladder(FORMATS[name], is_negative=False)
    last = len(rungs.magnitudes) - 1
    at = sorted(
        {min(rung, last) for power in range(0, last.bit_length() + 1, 3) for rung in ((1 << power) - 1, 1 << power)}
    )
    for rung in at:
        magnitude = rungs.magnitudes[rung]
        for whole in {max(magnitude - 1, 0), magnitude, magnitude + 1}:
            assert rungs.below(whole) == bisect_right(rungs.magnitudes, whole) - 1
    assert rungs.below(2 * rungs.magnitudes[last]) == last
