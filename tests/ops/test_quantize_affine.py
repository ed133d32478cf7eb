"""`quantize_affine` against the oracle."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.conformance.block_judge import affine_codes, affine_zero_points, scales
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import ELEMENTS, block_rows, code_dtype, random_patterns
from incref.errors import NanError
from incref.formats import (
    IntFormat,
    IntRange,
    NanRule,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
    get_format,
)
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import quantize_affine
from incref.oracle.elements import ElementRules

INTS = [fmt for fmt in ELEMENTS if isinstance(fmt, IntFormat) and fmt.bits <= 8 and not fmt.fraction_bits]
SIGNED = [fmt for fmt in INTS if fmt.is_signed]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
GRANULARITIES = [PER_TENSOR, PER_TOKEN, per_channel(1), per_group(4), per_group(3, axis=-2), per_block((2, 5))]


def name_of(value: object) -> str | None:
    name = getattr(value, "name", None)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else name


def int_format(name: str) -> IntFormat:
    fmt = get_format(name)
    assert isinstance(fmt, IntFormat)
    return fmt


def draw_bits(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.randint(-(1 << 31), 1 << 31, x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("fmt", SIGNED, ids=name_of)
def test_symmetric_grids(fmt: IntFormat, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 4)
    for kind, int_range, arithmetic in itertools.product(SymmetricScale, IntRange, ScaleArithmetic):
        if kind is SymmetricScale.EXTREME and int_range is IntRange.RESTRICTED:
            continue
        rules = ElementRules(nan=NanRule.MAX, int_range=int_range)
        scale = scales(x, fmt, PER_TOKEN, ScaleRule.DIVIDE, kind).view(-1, 1)
        codes, found = quantize_affine(
            x,
            fmt,
            granularity=PER_TOKEN,
            symmetric_scale=kind,
            int_range=int_range,
            arithmetic=arithmetic,
            nan=NanRule.MAX,
        )
        want = affine_codes(x, fmt, scale, None, PER_TOKEN, arithmetic=arithmetic, rules=rules)
        assert_same_bits(found, scale, note=(kind, int_range))
        assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=(kind, int_range, arithmetic))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("fmt", INTS, ids=name_of)
def test_zero_points(fmt: IntFormat, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 4, seed=1)
    for nan, rule in ((NanRule.ZERO, ScaleRule.DIVIDE), (NanRule.MAX, ScaleRule.RECIPROCAL)):
        want_scale, want_zero = affine_zero_points(x, fmt, PER_TOKEN, rule)
        codes, scale, zero = quantize_affine(x, fmt, granularity=PER_TOKEN, symmetric=False, rule=rule, nan=nan)
        assert_same_bits(scale, want_scale.view(-1, 1))
        assert_same_bits(zero, want_zero.view(-1, 1))
        want = affine_codes(
            x,
            fmt,
            scale,
            zero,
            PER_TOKEN,
            arithmetic=ScaleArithmetic.DIVIDE,
            rules=ElementRules(nan=nan, int_range=IntRange.FULL),
        )
        assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=(nan, rule))


@pytest.mark.parametrize("rounding", Rounding, ids=name_of)
@pytest.mark.parametrize("name", ["int8", "uint4", "int3"])
def test_roundings(name: str, rounding: Rounding) -> None:
    fmt = int_format(name)
    quarters = torch.arange(-4 * fmt.num_codes, 4 * fmt.num_codes, dtype=torch.float32) / 4
    x = torch.cat([quarters, torch.nextafter(quarters, quarters * 2), torch.nextafter(quarters, quarters * 0)]).view(
        8, -1
    )
    scale = torch.tensor([[1.0], [0.5], [3.0], [0.1], [-1.0], [-0.7], [2.0**-20], [2.0**100]])
    for zero_point in (None, torch.tensor([[0], [1], [2], [3], [0], [1], [2], [3]], dtype=torch.int32)):
        bits = draw_bits(x, torch.uint8) if rounding is Rounding.STOCHASTIC else None
        codes, *_ = quantize_affine(
            x, fmt, scale, zero_point, granularity=PER_TOKEN, rounding=rounding, random_bits=bits
        )
        want = affine_codes(
            x,
            fmt,
            scale,
            zero_point,
            PER_TOKEN,
            arithmetic=ScaleArithmetic.DIVIDE,
            rules=ElementRules(rounding=rounding, int_range=IntRange.FULL),
            random_bits=bits,
        )
        assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=zero_point is None)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (2, 4, 6)], ids=str)
def test_granularities(shape: tuple[int, ...], granularity: Granularity) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5
    fmt = int_format("int4")
    for symmetric in (True, False):
        codes, scale, *zero = quantize_affine(x, fmt, granularity=granularity, symmetric=symmetric)
        want = affine_codes(
            x,
            fmt,
            scale,
            zero[0] if zero else None,
            granularity,
            arithmetic=ScaleArithmetic.DIVIDE,
            rules=ElementRules(int_range=IntRange.FULL),
        )
        assert scale.shape == granularity.scale_shape(shape)
        assert_same_bits(codes, want.to(torch.int8), x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), arithmetic=st.sampled_from(ScaleArithmetic), rounding=st.sampled_from(Rounding))
def test_random_patterns(seed: int, arithmetic: ScaleArithmetic, rounding: Rounding) -> None:
    fmt = INTS[seed % len(INTS)]
    dtype = torch.float64 if seed % 5 == 0 else torch.float32
    x = random_patterns(96, dtype, seed=seed).view(8, 12)
    scale = random_patterns(8, dtype, seed=seed + 1).view(8, 1).nan_to_num(1.0, 1.0, 1.0)
    scale = torch.where(scale == 0, 1.0, scale)
    # Quotients that the integers can hold, not only overflows.
    x[::2] = scale[::2] * (torch.arange(48).view(4, 12) - 20) / 4
    bits = draw_bits(x, torch.int16) if rounding is Rounding.STOCHASTIC else None
    rules = ElementRules(rounding=rounding, nan=NanRule.MAX, int_range=IntRange.FULL)
    codes, _ = quantize_affine(
        x, fmt, scale, granularity=PER_TOKEN, arithmetic=arithmetic, rounding=rounding, nan=rules.nan, random_bits=bits
    )
    want = affine_codes(x, fmt, scale, None, PER_TOKEN, arithmetic=arithmetic, rules=rules, random_bits=bits)
    assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=(fmt.name, arithmetic, rounding))


def test_division_and_reciprocal_differ() -> None:
    fmt, scale = int_format("int8"), torch.tensor(3 / 7)
    # Some of these quotients are ties only if the reciprocal is not rounded.
    x = (torch.arange(-128, 128) + 0.5) * scale
    codes = {}
    for arithmetic in ScaleArithmetic:
        codes[arithmetic], _ = quantize_affine(x, fmt, scale, arithmetic=arithmetic)
        rules = ElementRules(int_range=IntRange.FULL)
        want = affine_codes(x, fmt, scale, None, PER_TENSOR, arithmetic=arithmetic, rules=rules)
        assert_same_bits(codes[arithmetic], want.to(torch.int8), x)
    assert not torch.equal(codes[ScaleArithmetic.DIVIDE], codes[ScaleArithmetic.RECIPROCAL])


def test_large_tensors_are_looked_up_to_the_same_codes() -> None:
    x = random_patterns(1 << 17, torch.float32).view(256, 512).nan_to_num(0.0, 1.0, -1.0)
    x[::2] = torch.randn(128, 512, generator=torch.Generator().manual_seed(0))
    for granularity, rounding in itertools.product([PER_TOKEN, per_group(100)], list(Rounding)[:5]):
        codes, scale = quantize_affine(x, "int8", granularity=granularity, rounding=rounding)
        rows = [quantize_affine(row, "int8", granularity=granularity, rounding=rounding)[0] for row in x.split(100)]
        assert_same_bits(codes, torch.cat(rows), x, note=(granularity, rounding))
        assert scale.shape == granularity.scale_shape(x.shape)


def test_scales_of_powers_of_two_are_codes() -> None:
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    codes, scale = quantize_affine(x, "int4", granularity=PER_TOKEN, rule=ScaleRule.CEIL)
    assert (codes.tolist(), scale.tolist()) == ([[1, -3], [0, 0]], [[127], [0]])


def test_golden_codes() -> None:
    x = torch.tensor([0.5, -0.5, 1.5, -2.5, 300.0, -300.0, torch.inf, -torch.inf])
    one = torch.tensor(1.0)
    assert quantize_affine(x, "int8", one)[0].tolist() == [0, 0, 2, -2, 127, -128, 127, -128]
    assert quantize_affine(x, "int8", one, int_range=IntRange.RESTRICTED)[0].tolist()[5:] == [-127, 127, -127]
    zero = torch.tensor(100, dtype=torch.int32)
    assert quantize_affine(x, "uint8", one, zero)[0].tolist() == [100, 100, 102, 98, 255, 0, 255, 0]


def test_a_tensor_without_elements() -> None:
    codes, scale, zero_point = quantize_affine(torch.empty(0, 4), "uint4", symmetric=False)
    assert (codes.shape, scale.item(), zero_point.item()) == ((0, 4), 1.0, 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_is_refused_by_default(bad: float) -> None:
    x = torch.zeros(1 << 16)
    x[5] = bad
    for part in (x, x[:9]):
        with pytest.raises(NanError, match="int8 has no NaN for the elements that are"):
            quantize_affine(part, "int8")


def test_extreme_needs_the_full_range() -> None:
    with pytest.raises(ValueError, match=r"EXTREME puts an element on the least code and needs IntRange\.FULL"):
        quantize_affine(torch.ones(3), "int8", symmetric_scale=SymmetricScale.EXTREME, int_range=IntRange.RESTRICTED)


@pytest.mark.parametrize("name", ["e4m3fn", "int16", "mxint8_element", "mxfp4", "nf4"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="affine quantization needs int2 to int8 or uint1 to uint8, got"):
        quantize_affine(torch.ones(3), name)


def test_wrong_tensors_are_refused() -> None:
    x, scale = torch.ones(2, 3), torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"a zero_point needs the scale that it was made with, got scale=None"):
        quantize_affine(x, "int8", zero_point=torch.zeros((), dtype=torch.int32))
    with pytest.raises(ValueError, match=r"the scale of a tensor of shape \(2, 3\).* the shape \(\), got \(2, 1\)"):
        quantize_affine(x, "int8", scale)
    with pytest.raises(ValueError, match=r"the zero_point of a tensor of shape \(2, 3\).* \(2, 1\), got \(\)"):
        quantize_affine(x, "int8", scale, torch.zeros((), dtype=torch.int32), granularity=PER_TOKEN)
    with pytest.raises(TypeError, match=r"zero_point must be torch\.int32, got torch\.int64"):
        quantize_affine(x, "int8", scale, torch.zeros(2, 1, dtype=torch.int64), granularity=PER_TOKEN)
    with pytest.raises(TypeError, match=r"values must be one of .* got torch\.int32"):
        quantize_affine(x.int(), "int8")
    with pytest.raises(TypeError, match=r"torch\.float64"):
        quantize_affine(x, "int8", scale.double(), granularity=PER_TOKEN)
    with pytest.raises(ValueError, match=r"random_bits must have the shape of x, \(2, 3\), got \(3,\)"):
        quantize_affine(x, "int8", rounding=Rounding.STOCHASTIC, random_bits=torch.zeros(3, dtype=torch.uint8))
