"""A sample of the sweeps: every 64th run of 2**20 patterns; the whole is `python -m conformance.sweep --all`."""

import pytest

from conformance.expect import CHUNK, Mismatch
from conformance.sweep import EncodeCase, main
from incref.formats import FORMATS, BlockFormat, ElementFormat, FloatFormat, IntRange, NanRule, Overflow, Rounding

NARROW = [fmt for fmt in FORMATS.values() if isinstance(fmt, FloatFormat) and fmt.bits <= 8]
STRIDE = 64


def element(name: str) -> ElementFormat:
    fmt = FORMATS[name]
    assert not isinstance(fmt, BlockFormat)
    return fmt


def assert_right(case: EncodeCase) -> None:
    outcome = case.check(stride=STRIDE)
    assert outcome.first is None, case.describe(outcome.first)
    assert outcome.patterns == (1 << 32) // STRIDE


@pytest.mark.parametrize("fmt", NARROW, ids=lambda fmt: fmt.name)
def test_narrow_floats_to_nearest_even(fmt: FloatFormat) -> None:
    assert_right(EncodeCase(fmt=fmt))


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("rounding", [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC])
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
def test_all_modes(name: str, rounding: Rounding, overflow: Overflow) -> None:
    assert_right(EncodeCase(fmt=element(name), rounding=rounding, overflow=overflow))


@pytest.mark.parametrize("int_range", IntRange)
@pytest.mark.parametrize("name", ["int8", "uint4", "mxint8_element", "int16", "float16", "bfloat16", "tf32"])
def test_integers_and_wider_floats(name: str, int_range: IntRange) -> None:
    assert_right(EncodeCase(fmt=element(name), int_range=int_range, nan=NanRule.ZERO))


def test_a_mismatch_is_explained() -> None:
    case = EncodeCase(fmt=element("float8_e5m2"))
    text = case.describe(Mismatch(pattern=0xBF800000, got=0xBB, want=0xBC))
    assert text == (
        "float32 0xbf800000 (-0x1.0000000000000p+0): encode gave code 0xbb (-0x1.c000000000000p-1), "
        "the oracle 0xbc (-0x1.0000000000000p+0)"
    )
    assert "(nan)" in case.describe(Mismatch(pattern=0x7FC00000, got=0x7C, want=0x7E))


def test_codes_of_wide_floats_are_shown_as_unsigned() -> None:
    case = EncodeCase(fmt=element("bfloat16"))
    assert "code 0xbf80 (-0x1.0000000000000p+0)" in case.describe(Mismatch(pattern=0, got=-16512, want=0))


def test_a_block_format_has_no_codes_of_its_own() -> None:
    with pytest.raises(SystemExit, match="sweep its elements, float4_e2m1fn"):
        main(["--format", "mxfp4"])


def test_every_pattern_belongs_to_a_chunk() -> None:
    assert (1 << 31) % CHUNK == 0
