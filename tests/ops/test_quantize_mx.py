"""`quantize_mx` against the oracle: the MX formats."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.conformance.block_judge import mx_codes
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import block_rows, random_patterns
from incref.errors import NanError
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    FloatFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleRule,
)
from incref.ops import quantize_mx
from incref.oracle.elements import ElementRules

MX = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
RULES = [rule for rule in ScaleRule if rule.is_power_of_two]


def name_of(value: object) -> str | None:
    name = getattr(value, "name", None)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else name


def block_format(name: str) -> BlockFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    return fmt


def draw_bits(x: torch.Tensor, dtype: torch.dtype = torch.int16) -> torch.Tensor:
    return torch.randint(-(1 << 31), 1 << 31, x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def code_dtype(fmt: BlockFormat) -> torch.dtype:
    return torch.uint8 if isinstance(fmt.element, FloatFormat) else torch.int8


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("fmt", MX, ids=name_of)
def test_every_kind_of_block(fmt: BlockFormat, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 37)[:, :36]
    for rule in RULES:
        want, want_scale = mx_codes(x, fmt, rule=rule, rules=ElementRules())
        codes, scale = quantize_mx(x, fmt, rule=rule)
        assert_same_bits(scale, want_scale.view(-1, 2), note=rule)
        assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=rule)


@pytest.mark.parametrize("overflow", Overflow, ids=name_of)
@pytest.mark.parametrize("rounding", Rounding, ids=name_of)
@pytest.mark.parametrize("fmt", MX, ids=name_of)
def test_roundings_and_overflows(fmt: BlockFormat, rounding: Rounding, overflow: Overflow) -> None:
    x = block_rows(torch.float32, 12)[::3]
    bits = draw_bits(x) if rounding is Rounding.STOCHASTIC else None
    for nan, int_range in ((NanRule.MAX, IntRange.FULL), (NanRule.ZERO, IntRange.RESTRICTED)):
        rules = ElementRules(rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
        want, want_scale = mx_codes(x, fmt, rules=rules, random_bits=bits)
        codes, scale = quantize_mx(
            x, fmt, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range, random_bits=bits
        )
        assert_same_bits(scale, want_scale.view(-1, 1), note=rules)
        assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=rules)


@pytest.mark.parametrize("inf_block", BlockRule, ids=name_of)
@pytest.mark.parametrize("nan_block", BlockRule, ids=name_of)
@pytest.mark.parametrize("fmt", MX, ids=name_of)
def test_special_elements(fmt: BlockFormat, nan_block: BlockRule, inf_block: BlockRule) -> None:
    x = block_rows(torch.float32, 12)[-24:]
    for overflow, nan in itertools.product(Overflow, [NanRule.MAX, NanRule.ZERO]):
        rules = ElementRules(overflow=overflow, nan=nan)
        want, want_scale = mx_codes(x, fmt, specials=(nan_block, inf_block), rules=rules)
        codes, scale = quantize_mx(x, fmt, nan_block=nan_block, inf_block=inf_block, overflow=overflow, nan=nan)
        assert_same_bits(scale, want_scale.view(-1, 1), note=rules)
        assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=rules)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("name", ["mxfp4", "mxint8"])
def test_blocks_along_any_axis(name: str, axis: int) -> None:
    fmt = block_format(name)
    x = torch.randn(5, 35, 3, generator=torch.Generator().manual_seed(0)).permute(0, 2, 1)
    want, want_scale = mx_codes(x, fmt, axis=axis, rules=ElementRules())
    codes, scale = quantize_mx(x, fmt, axis=axis)
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // 32)
    assert scale.shape == tuple(shape)
    assert codes.is_contiguous()
    assert scale.is_contiguous()
    assert_same_bits(scale, want_scale.view(shape))
    assert_same_bits(codes, want.to(code_dtype(fmt)), x)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("fmt", MX, ids=name_of)
def test_large_tensors_are_looked_up_to_the_same_codes(fmt: BlockFormat, dtype: torch.dtype, axis: int) -> None:
    kinds = block_rows(dtype, 224)
    x = torch.cat([kinds, random_patterns(224 * 200, dtype).view(200, 224)]) if dtype.itemsize > 2 else kinds
    x = x.repeat(-(-(1 << 16) // x.numel()), 1)
    x = x if axis == 1 else x.T
    for rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO):
        codes, scale = quantize_mx(x, fmt, axis=axis, rounding=rounding)
        parts = [quantize_mx(part, fmt, axis=axis, rounding=rounding) for part in x.split(100, dim=1 - axis)]
        assert_same_bits(codes, torch.cat([part[0] for part in parts], dim=1 - axis), x, note=rounding)
        assert_same_bits(scale, torch.cat([part[1] for part in parts], dim=1 - axis), note=rounding)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rule=st.sampled_from(RULES), rounding=st.sampled_from(Rounding))
def test_random_patterns(seed: int, rule: ScaleRule, rounding: Rounding) -> None:
    fmt, dtype = MX[seed % len(MX)], DTYPES[seed % 3]
    x = random_patterns(99, dtype, seed=seed).view(3, 33)
    # Magnitudes near each other in one row: uniform patterns leave one element that is not zero.
    x[1] = random_patterns(1, dtype, seed=seed + 1).nan_to_num(1.0, 1.0, 1.0) * (torch.arange(33) - 16) / 64
    bits = draw_bits(x) if rounding is Rounding.STOCHASTIC else None
    rules = ElementRules(rounding=rounding, nan=NanRule.MAX)
    specials = (BlockRule.ELEMENT, BlockRule.ELEMENT)
    want, want_scale = mx_codes(x, fmt, rule=rule, specials=specials, rules=rules, random_bits=bits)
    codes, scale = quantize_mx(
        x,
        fmt,
        rule=rule,
        rounding=rounding,
        nan=NanRule.MAX,
        nan_block=specials[0],
        inf_block=specials[1],
        random_bits=bits,
    )
    assert_same_bits(scale, want_scale.view(3, 2), note=(fmt.name, rule))
    assert_same_bits(codes, want.to(code_dtype(fmt)), x, note=(fmt.name, rule, rounding))


def test_golden_blocks() -> None:
    x = torch.tensor([[0.5, -1.0, 3.0, -0.0], [6.0, 7.0, -8.0, 0.25], [0.0, -0.0, 0.0, -0.0]])
    codes, scale = quantize_mx(x, "mxfp4")
    assert codes.tolist() == [[2, 12, 7, 8], [5, 6, 14, 0], [0, 8, 0, 8]]
    assert scale.tolist() == [[126], [128], [0]]
    x = torch.tensor([1.0, -2.0, -1.9999, 1.9999])
    codes, scale = quantize_mx(x, "mxint8")
    assert (codes.tolist(), scale.tolist()) == ([32, -64, -64, 64], [128])


def test_the_least_code_of_mxint8_is_used_on_request() -> None:
    x = torch.tensor([-1.9999, 1.9999])
    assert quantize_mx(x, "mxint8")[0].tolist() == [-127, 127]
    assert quantize_mx(x, "mxint8", int_range=IntRange.FULL)[0].tolist() == [-128, 127]


def test_the_largest_element_below_a_power_of_two() -> None:
    below = torch.tensor([8.0 - 2.0**-21])
    assert below.item() != 8.0
    assert quantize_mx(below, "mxfp4")[1].item() == 127
    assert quantize_mx(below, "mxfp4", rule=ScaleRule.CEIL)[1].item() == 128
    assert quantize_mx(below, "mxfp4", rule=ScaleRule.EVEN)[1].item() == 128
    assert quantize_mx(torch.tensor([6.0]), "mxfp4", rule=ScaleRule.RCEIL)[1].item() == 127


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["mxfp4", "mxint8"])
def test_elements_without_nan_refuse_one(name: str, bad: float) -> None:
    x = torch.ones(2048, 32)
    x[3, 4] = bad
    overflow = Overflow.NONSATURATE
    for part in (x, x[:5]):
        assert quantize_mx(part, name)[1][3].item() == 255
        with pytest.raises(NanError, match="has no NaN for the elements that are, or become, NaN"):
            quantize_mx(part, name, nan_block=BlockRule.ELEMENT, inf_block=BlockRule.ELEMENT, overflow=overflow)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 32), (2, 0, 5)], ids=str)
def test_a_tensor_without_elements(shape: tuple[int, ...]) -> None:
    codes, scale = quantize_mx(torch.empty(shape), "mxfp4")
    assert codes.shape == shape
    assert scale.shape == (*shape[:-1], -(-shape[-1] // 32))


@pytest.mark.parametrize("name", ["e4m3fn", "int8", "nf4"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="has no blocks; quantize_mx needs a block format such as mxfp4 or nvfp4"):
        quantize_mx(torch.ones(32), name)


@pytest.mark.parametrize("rule", [ScaleRule.DIVIDE, ScaleRule.RECIPROCAL], ids=name_of)
def test_rules_of_the_other_kind_are_refused(rule: ScaleRule) -> None:
    with pytest.raises(ValueError, match="mxfp4 has scales that are powers of two; use FLOOR, CEIL, EVEN or RCEIL"):
        quantize_mx(torch.ones(32), "mxfp4", rule=rule)


def test_wrong_tensors_are_refused() -> None:
    x = torch.ones(2, 32)
    with pytest.raises(ValueError, match="blocks lie along a dimension of x, which has 2; got axis=2"):
        quantize_mx(x, "mxfp4", axis=2)
    with pytest.raises(ValueError, match="which has 0; got axis=-1"):
        quantize_mx(torch.tensor(1.0), "mxfp4")
    with pytest.raises(TypeError, match=r"values must be one of .* got torch\.int32"):
        quantize_mx(x.int(), "mxfp4")
    with pytest.raises(ValueError, match="mxfp4 has no tensor_scale"):
        quantize_mx(x, "mxfp4", tensor_scale=torch.tensor(1.0))
    with pytest.raises(ValueError, match="stochastic rounding needs random_bits"):
        quantize_mx(x, "mxfp4", rounding=Rounding.STOCHASTIC)
