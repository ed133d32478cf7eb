"""`quantize_float` against the oracle."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.conformance.block_judge import float_codes, scales
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import NARROW, block_rows, boundaries, random_patterns, specials
from incref.errors import NanError
from incref.formats import (
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    IntFormat,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    get_format,
)
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import quantize_float
from incref.oracle.elements import ElementRules

FLOATS = [fmt for fmt in NARROW if not isinstance(fmt, IntFormat)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
GRANULARITIES = [PER_TENSOR, PER_TOKEN, per_channel(1), per_group(4), per_group(3, axis=-2), per_block((2, 5))]


def name_of(value: object) -> str | None:
    name = getattr(value, "name", None)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else name


def element_format(name: str) -> ElementFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | CodebookFormat)
    return fmt


def draw_bits(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.randint(-(1 << 31), 1 << 31, x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("fmt", FLOATS, ids=name_of)
def test_every_format(fmt: ElementFormat, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 4)
    for rule, arithmetic in zip([ScaleRule.DIVIDE, ScaleRule.RECIPROCAL], ScaleArithmetic, strict=True):
        scale = scales(x, fmt, PER_TOKEN, rule).view(-1, 1)
        codes, found = quantize_float(x, fmt, granularity=PER_TOKEN, rule=rule, arithmetic=arithmetic, nan=NanRule.MAX)
        want = float_codes(x, fmt, scale, PER_TOKEN, arithmetic=arithmetic, rules=ElementRules(nan=NanRule.MAX))
        assert_same_bits(found, scale, note=rule)
        assert_same_bits(codes, want.to(torch.uint8), x, note=(rule, arithmetic))


@pytest.mark.parametrize("overflow", Overflow, ids=name_of)
@pytest.mark.parametrize("rounding", Rounding, ids=name_of)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "float8_e4m3fnuz", "e2m1", "nf4"])
def test_roundings_and_overflows(name: str, rounding: Rounding, overflow: Overflow) -> None:
    fmt = element_format(name)
    if isinstance(fmt, CodebookFormat) and rounding is Rounding.STOCHASTIC:
        rounding = Rounding.NEAREST_EVEN
    values = boundaries(fmt, torch.float32)[::5]
    # A scale that makes finite values overflow float32 on the way is one of them.
    scale = torch.tensor([1.0, 3.0, 0.7, -(2.0**-120)]).view(-1, 1)
    x = torch.cat([values.repeat(3, 1) * scale[:3].abs(), values.repeat(1, 1) * 2.0**20])
    bits = draw_bits(x, torch.int16) if rounding is Rounding.STOCHASTIC else None
    codes, _ = quantize_float(
        x,
        fmt,
        scale,
        granularity=PER_TOKEN,
        rounding=rounding,
        overflow=overflow,
        nan=NanRule.ZERO,
        random_bits=bits,
    )
    rules = ElementRules(rounding=rounding, overflow=overflow, nan=NanRule.ZERO)
    want = float_codes(x, fmt, scale, PER_TOKEN, arithmetic=ScaleArithmetic.DIVIDE, rules=rules, random_bits=bits)
    assert_same_bits(codes, want.to(torch.uint8), x)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (2, 4, 6)], ids=str)
def test_granularities(shape: tuple[int, ...], granularity: Granularity) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5
    fmt = element_format("e4m3fn")
    for rule in (ScaleRule.DIVIDE, ScaleRule.FLOOR):
        codes, scale = quantize_float(x, fmt, granularity=granularity, rule=rule)
        want = float_codes(x, fmt, scale, granularity, arithmetic=ScaleArithmetic.DIVIDE, rules=ElementRules())
        assert scale.shape == granularity.scale_shape(shape)
        assert_same_bits(codes, want.to(torch.uint8), x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), arithmetic=st.sampled_from(ScaleArithmetic), overflow=st.sampled_from(Overflow))
def test_random_patterns(seed: int, arithmetic: ScaleArithmetic, overflow: Overflow) -> None:
    fmt = FLOATS[seed % len(FLOATS)]
    dtype = torch.float64 if seed % 5 == 0 else torch.float32
    x = random_patterns(96, dtype, seed=seed).view(8, 12)
    scale = random_patterns(8, dtype, seed=seed + 1).view(8, 1)
    x[::2] = scale[::2] * (torch.arange(48).view(4, 12) - 20) / 4
    rules = ElementRules(overflow=overflow, nan=NanRule.MAX)
    codes, _ = quantize_float(
        x, fmt, scale, granularity=PER_TOKEN, arithmetic=arithmetic, overflow=overflow, nan=NanRule.MAX
    )
    want = float_codes(x, fmt, scale, PER_TOKEN, arithmetic=arithmetic, rules=rules)
    assert_same_bits(codes, want.to(torch.uint8), x, note=(fmt.name, arithmetic, overflow))


def test_division_and_reciprocal_differ() -> None:
    fmt, scale = element_format("e4m3fn"), torch.tensor(3 / 7)
    x = boundaries(fmt, torch.float32) * scale
    codes = {}
    for arithmetic in ScaleArithmetic:
        codes[arithmetic], _ = quantize_float(x, fmt, scale, arithmetic=arithmetic)
        want = float_codes(x, fmt, scale, PER_TENSOR, arithmetic=arithmetic, rules=ElementRules())
        assert_same_bits(codes[arithmetic], want.to(torch.uint8), x)
    assert not torch.equal(codes[ScaleArithmetic.DIVIDE], codes[ScaleArithmetic.RECIPROCAL])


def test_large_tensors_are_looked_up_to_the_same_codes() -> None:
    x = random_patterns(1 << 17, torch.float32).view(256, 512).nan_to_num(0.0, 1.0, -1.0)
    x[::2] = torch.randn(128, 512, generator=torch.Generator().manual_seed(0))
    for name, rounding in itertools.product(["e4m3fn", "e5m2", "e2m1", "nf4"], list(Rounding)[:5]):
        codes, _ = quantize_float(x, name, granularity=PER_TOKEN, rounding=rounding)
        rows = [quantize_float(row, name, granularity=PER_TOKEN, rounding=rounding)[0] for row in x.split(100)]
        assert_same_bits(codes, torch.cat(rows), x, note=(name, rounding))


def test_golden_codes() -> None:
    x = torch.tensor([448.0, -448.0, 1.0, -0.0, 900.0])
    assert quantize_float(x, "e4m3fn", torch.tensor(1.0))[0].tolist() == [0x7E, 0xFE, 0x38, 0x80, 0x7E]
    assert quantize_float(x, "e4m3fn", torch.tensor(128, dtype=torch.uint8))[0].tolist() == [
        0x76,
        0xF6,
        0x30,
        0x80,
        0x7E,
    ]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_special_element_makes_its_block_nan(bad: float) -> None:
    x = torch.ones(2, 4)
    x[0, 1] = bad
    codes, scale = quantize_float(x, "e4m3fn", granularity=PER_TOKEN)
    assert scale.isnan().flatten().tolist() == [True, False]
    assert codes.tolist() == [[0x7F] * 4, [0x7E] * 4]
    with pytest.raises(NanError, match="float4_e2m1fn has no NaN for the elements that are"):
        quantize_float(x, "e2m1", granularity=PER_TOKEN)


def test_a_tensor_without_elements() -> None:
    codes, scale = quantize_float(torch.empty(0, 4), "e4m3fn")
    assert (codes.shape, scale.item()) == ((0, 4), 1.0)


@pytest.mark.parametrize("name", ["int8", "bfloat16", "mxfp8_e4m3"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"scaled floats need a float format of at most 8 bits|shares scales"):
        quantize_float(torch.ones(3), name)


def test_wrong_tensors_are_refused() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"the scale of a tensor of shape \(2, 3\).* the shape \(\), got \(2, 1\)"):
        quantize_float(x, "e4m3fn", torch.ones(2, 1))
    with pytest.raises(TypeError, match=r"values must be one of .* got torch\.int32"):
        quantize_float(x.int(), "e4m3fn")
    with pytest.raises(TypeError, match=r"torch\.float64"):
        quantize_float(x, "e4m3fn", torch.ones((), dtype=torch.float64))
    with pytest.raises(ValueError, match=r"random_bits must have the shape of x, \(2, 3\), got \(3,\)"):
        quantize_float(x, "e4m3fn", rounding=Rounding.STOCHASTIC, random_bits=torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("arithmetic", ScaleArithmetic, ids=name_of)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1"])
def test_no_processor_chooses_the_sign_of_a_nan(name: str, arithmetic: ScaleArithmetic) -> None:
    fmt = element_format(name)
    scale = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, -torch.nan, 2.0**-140, 3e38]).view(-1, 1)
    x = specials(torch.float32).repeat(len(scale), 1)
    codes, _ = quantize_float(x, fmt, scale, granularity=PER_TOKEN, arithmetic=arithmetic, nan=NanRule.MAX)
    rules = ElementRules(nan=NanRule.MAX)
    want = float_codes(x, fmt, scale, PER_TOKEN, arithmetic=arithmetic, rules=rules)
    assert_same_bits(codes, want.to(torch.uint8), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("arithmetic", ScaleArithmetic, ids=name_of)
@pytest.mark.parametrize("overflow", Overflow, ids=name_of)
def test_quotients_in_the_dtype_of_the_input(
    dtype: torch.dtype, arithmetic: ScaleArithmetic, overflow: Overflow
) -> None:
    fmt = element_format("e4m3fn")
    scale = torch.tensor([[1 / 1.3], [0.1], [3.0], [1e-30], [2.0**-126], [1e30], [torch.inf], [torch.nan], [0.0]])
    x = torch.cat([boundaries(fmt, dtype)[::7], random_patterns(60, dtype)]).expand(len(scale), -1).clone()
    rules, options = ElementRules(overflow=overflow, nan=NanRule.MAX), {"quotient": QuotientDtype.INPUT}
    codes, _ = quantize_float(
        x, fmt, scale, granularity=PER_TOKEN, arithmetic=arithmetic, overflow=overflow, nan=NanRule.MAX, **options
    )
    want = float_codes(x, fmt, scale, PER_TOKEN, arithmetic=arithmetic, rules=rules, **options)
    assert_same_bits(codes, want.to(torch.uint8), x, note=(dtype, arithmetic, overflow))


def test_rounding_twice_differs_where_the_first_makes_a_tie() -> None:
    x, scale = torch.arange(128).div(128).add(1).to(torch.bfloat16), torch.tensor(1 / 1.3)
    options = {"arithmetic": ScaleArithmetic.RECIPROCAL}
    once, _ = quantize_float(x, "e4m3fn", scale, **options)
    twice, _ = quantize_float(x, "e4m3fn", scale, quotient=QuotientDtype.INPUT, **options)
    assert_same_bits(twice, quantize_float(x * (1 / scale).bfloat16(), "e4m3fn", torch.tensor(1.0))[0])
    assert not torch.equal(once, twice)
