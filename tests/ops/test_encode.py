"""`encode` against the oracle: every pattern of 16 bits, and wider ones where the answer changes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.conformance.judge import assert_same_bits, encode_each, encode_tensor
from incref.conformance.samples import ELEMENTS, NARROW, all_patterns, boundaries, code_dtype, random_patterns, specials
from incref.errors import NanError, UnsupportedError
from incref.formats import (
    FORMATS,
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    get_format,
)
from incref.ops import encode
from incref.oracle.elements import ElementRules

FIXED = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
WIDE = [fmt for fmt in ELEMENTS if fmt not in NARROW and fmt.name != "float64"]
HALVES = [torch.bfloat16, torch.float16]
SIGNED_INTS = [fmt for fmt in ELEMENTS if isinstance(fmt, IntFormat) and fmt.is_signed]


def name_of(value: object) -> str | None:
    return getattr(value, "name", None) or (
        str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else None
    )


def has_nan(fmt: ElementFormat) -> bool:
    return isinstance(fmt, FloatFormat) and fmt.nan_code is not None


def nan_rules(fmt: ElementFormat) -> list[NanRule]:
    return [NanRule.ERROR] if has_nan(fmt) else [NanRule.MAX, NanRule.ZERO]


def judge(x: torch.Tensor, fmt: ElementFormat, rounding: Rounding) -> None:
    """Hold the codes of `x` to the oracle's, under all other options, looked up and computed."""
    for overflow, nan in itertools.product(Overflow, nan_rules(fmt)):
        want = encode_tensor(x, fmt, rounding=rounding, overflow=overflow, nan=nan).to(code_dtype(fmt))
        # Tables are for large tensors; what is smaller is computed.
        repeated = x.repeat(-(-(1 << 16) // len(x)))
        looked_up = encode(repeated, fmt, rounding=rounding, overflow=overflow, nan=nan)
        computed = torch.cat(
            [encode(part, fmt, rounding=rounding, overflow=overflow, nan=nan) for part in x.split((1 << 16) - 1)]
        )
        assert_same_bits(computed, want, x, note=(overflow, nan, "computed"))
        assert_same_bits(looked_up, want.repeat(len(repeated) // len(x)), repeated, note=(overflow, nan, "looked up"))


@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
@pytest.mark.parametrize("rounding", FIXED, ids=name_of)
@pytest.mark.parametrize("fmt", NARROW, ids=name_of)
def test_every_half_is_encoded_right(fmt: ElementFormat, rounding: Rounding, dtype: torch.dtype) -> None:
    judge(all_patterns(dtype), fmt, rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("fmt", NARROW, ids=name_of)
def test_values_and_midpoints_and_their_neighbours(fmt: ElementFormat, dtype: torch.dtype) -> None:
    x = boundaries(fmt, dtype)
    for rounding in FIXED:
        judge(x, fmt, rounding)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("fmt", WIDE, ids=name_of)
def test_formats_wider_than_a_byte(fmt: ElementFormat, dtype: torch.dtype) -> None:
    x = all_patterns(dtype)[::41] if dtype in HALVES else boundaries(fmt, dtype)
    for rounding, overflow in zip([*FIXED, Rounding.NEAREST_EVEN], itertools.cycle(Overflow), strict=False):
        rules = ElementRules(rounding=rounding, overflow=overflow, nan=NanRule.MAX, int_range=IntRange.FULL)
        got = encode(x, fmt, rounding=rounding, overflow=overflow, nan=NanRule.MAX)
        assert_same_bits(got, encode_each(x, fmt, rules).to(code_dtype(fmt)), x, note=rules)


@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
@pytest.mark.parametrize("fmt", SIGNED_INTS, ids=name_of)
def test_restricted_integers_are_symmetric(fmt: IntFormat, dtype: torch.dtype) -> None:
    x = all_patterns(dtype)
    if fmt.bits > 8:
        x = x[::41]
    for overflow in Overflow:
        want = encode_tensor(x, fmt, overflow=overflow, nan=NanRule.MAX, int_range=IntRange.RESTRICTED)
        got = encode(x, fmt, overflow=overflow, nan=NanRule.MAX, int_range=IntRange.RESTRICTED)
        assert_same_bits(got, want.to(code_dtype(fmt)), x, note=overflow)
        assert int(got.min()) == -fmt.max_code


@pytest.mark.parametrize("fmt", [fmt for fmt in NARROW if not isinstance(fmt, CodebookFormat)], ids=name_of)
def test_stochastic_rounding_of_boundaries(fmt: ElementFormat) -> None:
    for dtype, width in ((torch.float32, torch.int16), (torch.float64, torch.int32)):
        judge_stochastic(boundaries(fmt, dtype)[::3], fmt, width)
    judge_stochastic(all_patterns(torch.bfloat16)[::61], fmt, torch.uint8)


@pytest.mark.parametrize("width", [torch.uint8, torch.int16, torch.int32], ids=name_of)
@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "float8_e8m0fnu", "mxint8_element", "float32"])
def test_stochastic_rounding_with_extreme_random_bits(name: str, width: torch.dtype) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | IntFormat)
    info = torch.iinfo(width)
    for value in {0, 1, info.max, info.max - 1, info.min}:
        judge_stochastic(boundaries(fmt, torch.float64)[::5], fmt, width, value)


@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "int4"])
def test_stochastic_rounding_of_every_half(name: str, dtype: torch.dtype) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | IntFormat)
    judge_stochastic(all_patterns(dtype), fmt, torch.int16)


def judge_stochastic(x: torch.Tensor, fmt: ElementFormat, width: torch.dtype, random_bits: int | None = None) -> None:
    if random_bits is None:
        drawn = torch.randint(-(1 << 31), 1 << 31, x.shape, generator=torch.Generator().manual_seed(0)).to(width)
    else:
        drawn = torch.full(x.shape, random_bits, dtype=width)
    overflow = Overflow.NONSATURATE if width is torch.int16 else Overflow.SATURATE
    rules = ElementRules(
        rounding=Rounding.STOCHASTIC,
        overflow=overflow,
        nan=NanRule.ZERO if not has_nan(fmt) else NanRule.ERROR,
        int_range=IntRange.FULL,
    )
    got = encode(x, fmt, rounding=rules.rounding, overflow=overflow, nan=rules.nan, random_bits=drawn)
    assert_same_bits(got, encode_each(x, fmt, rules, drawn).to(code_dtype(fmt)), x, note=rules)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rounding=st.sampled_from(FIXED), overflow=st.sampled_from(Overflow))
def test_random_patterns(dtype: torch.dtype, seed: int, rounding: Rounding, overflow: Overflow) -> None:
    x = random_patterns(200, dtype, seed=seed)
    fmt = NARROW[seed % len(NARROW)]
    rules = ElementRules(rounding=rounding, overflow=overflow, nan=NanRule.MAX, int_range=IntRange.FULL)
    got = encode(x, fmt, rounding=rounding, overflow=overflow, nan=NanRule.MAX)
    assert_same_bits(got, encode_each(x, fmt, rules).to(code_dtype(fmt)), x, note=(fmt.name, rules))


@pytest.mark.parametrize("fmt", [fmt for fmt in ELEMENTS if not has_nan(fmt)], ids=name_of)
def test_nan_is_refused_by_default(fmt: ElementFormat) -> None:
    x = torch.zeros(1 << 16)
    x[77] = torch.nan
    for part in (x, x[70:80]):
        with pytest.raises(NanError, match=f"{fmt.name} has no NaN for the elements that are"):
            encode(part, fmt)


@pytest.mark.parametrize("overflow", [Overflow.SATURATE_FINITE, Overflow.NONSATURATE], ids=name_of)
@pytest.mark.parametrize("name", ["e2m1", "int8", "uint4", "nf4"])
def test_what_becomes_nan_is_refused_by_default(name: str, overflow: Overflow) -> None:
    x = torch.zeros(1 << 16)
    x[77] = torch.inf
    for part in (x, x[70:80]):
        with pytest.raises(NanError, match="has no NaN for the elements that are, or become, NaN; 1 of"):
            encode(part, name, overflow=overflow)
    encode(x, name)


def test_golden_codes() -> None:
    x = torch.tensor([464.0, 465.0, -0.0, 2.0**-10, 1.5 * 2.0**-10, torch.inf, -torch.nan])
    assert encode(x, "e4m3fn").tolist() == [0x7E, 0x7E, 0x80, 0x00, 0x01, 0x7E, 0xFF]
    assert encode(x, "e4m3fn", overflow=Overflow.NONSATURATE).tolist() == [0x7E, 0x7F, 0x80, 0x00, 0x01, 0x7F, 0xFF]
    assert encode(x, "e4m3fn", rounding=Rounding.TOWARD_ZERO, overflow=Overflow.NONSATURATE)[1].item() == 0x7E
    assert encode(x[:6], "e2m1").tolist() == [7, 7, 8, 0, 0, 7]
    assert encode(torch.tensor([-1.0, 3.0, 0.0, 5.0]), "float8_e8m0fnu").tolist() == [0, 128, 0, 129]


def test_one_rounding_from_float64() -> None:
    # Through float32 this is 1.0625, a tie, which goes to the even 1.0.
    x = torch.tensor([1.0625 + 2.0**-40], dtype=torch.float64)
    assert encode(x, "e4m3fn").item() == 0x39
    assert encode(x.to(torch.float32), "e4m3fn").item() == 0x38


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn, torch.bool], ids=name_of)
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"values must be one of torch\.float16, .*, got torch"):
        encode(torch.zeros(3, dtype=dtype), "e4m3fn")


def test_other_dtypes_of_random_bits_are_refused() -> None:
    with pytest.raises(TypeError, match=r"random_bits must be one of torch\.uint8, .*, got torch\.int64"):
        encode(torch.zeros(3), "e4m3fn", rounding=Rounding.STOCHASTIC, random_bits=torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("rounding", "shape", "message"),
    [
        (
            Rounding.STOCHASTIC,
            None,
            "stochastic rounding needs random_bits, one integer for each",
        ),
        (Rounding.STOCHASTIC, (2,), r"random_bits must have the shape of x, \(3,\), got \(2,\)"),
        (
            Rounding.NEAREST_EVEN,
            (3,),
            "random_bits go with Rounding.STOCHASTIC only, got them",
        ),
    ],
)
def test_random_bits_belong_to_stochastic_rounding(
    rounding: Rounding, shape: tuple[int, ...] | None, message: str
) -> None:
    bits = None if shape is None else torch.zeros(shape, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        encode(torch.zeros(3), "e4m3fn", rounding=rounding, random_bits=bits)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("e9m9", "no format is called 'e9m9'"),
        ("mxfp4", "mxfp4 shares scales between elements; use quantize_mx, or its element format float4_e2m1fn"),
        ("float64", "float64 has codes of 64 bits; codes of at most 32 bits can be held"),
    ],
)
def test_formats_without_codes_of_their_own_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(torch.zeros(3), name)


def test_codebooks_have_no_stochastic_rounding() -> None:
    with pytest.raises(UnsupportedError, match="nf4 has uneven steps"):
        encode(torch.zeros(3), "nf4", rounding=Rounding.STOCHASTIC, random_bits=torch.zeros(3, dtype=torch.uint8))


def test_specials_of_every_source_have_one_meaning() -> None:
    for dtype in (torch.float64, torch.float32, *HALVES):
        x = specials(dtype)
        codes = encode(x[x.isnan() | x.isinf() | (x == 0)], "e5m2", overflow=Overflow.NONSATURATE)
        assert codes.tolist() == [0x00, 0x7C, 0x7E, 0x80, 0xFC, 0xFE]


def test_format_names_and_rows_are_alike() -> None:
    x = all_patterns(torch.bfloat16)
    assert torch.equal(encode(x, "e5m2"), encode(x, FORMATS["float8_e5m2"]))
