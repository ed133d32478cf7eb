"""`quantize_mx` against the oracle: NVFP4."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.conformance.block_judge import nvfp4_codes
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import block_rows, random_patterns
from incref.formats import FORMATS, BlockFormat, BlockRule, NanRule, Overflow, Rounding, ScaleArithmetic, ScaleRule
from incref.ops import quantize_mx
from incref.oracle.elements import ElementRules

NVFP4 = FORMATS["nvfp4"]
assert isinstance(NVFP4, BlockFormat)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def name_of(value: object) -> str | None:
    name = getattr(value, "name", None)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else name


def judge(
    x: torch.Tensor,
    *,
    tensor_scale: torch.Tensor | None = None,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    specials: tuple[BlockRule, BlockRule] = (BlockRule.NAN_BLOCK, BlockRule.NAN_BLOCK),
    rules: ElementRules,
) -> None:
    assert isinstance(NVFP4, BlockFormat)
    bits = None
    if rules.rounding is Rounding.STOCHASTIC:
        bits = torch.randint(-(1 << 31), 1 << 31, x.shape, generator=torch.Generator().manual_seed(1)).to(torch.int16)
    want, want_scale, want_tensor = nvfp4_codes(
        x, NVFP4, tensor_scale=tensor_scale, arithmetic=arithmetic, specials=specials, rules=rules, random_bits=bits
    )
    codes, scale, tensor = quantize_mx(
        x,
        NVFP4,
        tensor_scale=tensor_scale,
        arithmetic=arithmetic,
        nan_block=specials[0],
        inf_block=specials[1],
        rounding=rules.rounding,
        overflow=rules.overflow,
        nan=rules.nan,
        random_bits=bits,
    )
    assert_same_bits(tensor, want_tensor, note=arithmetic)
    assert_same_bits(scale, want_scale.view(scale.shape), note=(arithmetic, rules))
    assert_same_bits(codes, want.to(torch.uint8), x, note=(arithmetic, rules))


@pytest.mark.parametrize("arithmetic", ScaleArithmetic, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_every_kind_of_block(dtype: torch.dtype, arithmetic: ScaleArithmetic) -> None:
    x = block_rows(dtype, 18)
    # Under the scale of a tensor with values near the largest one most rows vanish, so they are judged alone, too.
    judge(x, arithmetic=arithmetic, rules=ElementRules())
    for row in x.split(1):
        judge(row, arithmetic=arithmetic, rules=ElementRules())


@pytest.mark.parametrize("rounding", Rounding, ids=name_of)
@pytest.mark.parametrize("overflow", Overflow, ids=name_of)
def test_roundings_and_overflows(overflow: Overflow, rounding: Rounding) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 18, generator=generator) * torch.logspace(-4, 4, 24).unsqueeze(1)
    for arithmetic in ScaleArithmetic:
        judge(x, arithmetic=arithmetic, rules=ElementRules(rounding=rounding, overflow=overflow, nan=NanRule.MAX))


@pytest.mark.parametrize("inf_block", BlockRule, ids=name_of)
@pytest.mark.parametrize("nan_block", BlockRule, ids=name_of)
def test_special_elements(nan_block: BlockRule, inf_block: BlockRule) -> None:
    x = block_rows(torch.float32, 12)[-14:]
    for arithmetic, overflow, nan in itertools.product(ScaleArithmetic, Overflow, [NanRule.MAX, NanRule.ZERO]):
        rules = ElementRules(overflow=overflow, nan=nan)
        judge(x, arithmetic=arithmetic, specials=(nan_block, inf_block), rules=rules)


@pytest.mark.parametrize("arithmetic", ScaleArithmetic, ids=name_of)
@pytest.mark.parametrize("tensor_scale", [1.0, 3.0, 2.0**-140, 2.0**-126, 2.0**-30, 2.0**30, 2.0**120, 3.4e38], ids=str)
def test_a_given_tensor_scale(tensor_scale: float, arithmetic: ScaleArithmetic) -> None:
    x = block_rows(torch.float32, 17)[::2]
    rules = ElementRules(nan=NanRule.MAX)
    judge(x, tensor_scale=torch.tensor(tensor_scale), arithmetic=arithmetic, rules=rules)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), arithmetic=st.sampled_from(ScaleArithmetic))
def test_random_patterns(seed: int, arithmetic: ScaleArithmetic) -> None:
    x = random_patterns(99, DTYPES[seed % 3], seed=seed).view(3, 33).nan_to_num(0.0, 0.0, 0.0)
    scale = random_patterns(1, x.dtype, seed=seed + 1).nan_to_num(1.0, 1.0, 1.0)
    x[1] = scale * (torch.arange(33) - 16) / 64
    judge(x, arithmetic=arithmetic, rules=ElementRules(nan=NanRule.MAX))
    judge(x[1:2], arithmetic=arithmetic, rules=ElementRules(nan=NanRule.MAX))


def test_division_and_reciprocal_differ() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    ratios = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0]).repeat(2)
    x[:, :16] = ratios * torch.arange(1, 65).unsqueeze(1)
    found = [quantize_mx(x, NVFP4, arithmetic=arithmetic)[0] for arithmetic in ScaleArithmetic]
    assert not torch.equal(*found)
    for arithmetic in ScaleArithmetic:
        judge(x, arithmetic=arithmetic, rules=ElementRules())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("arithmetic", ScaleArithmetic, ids=name_of)
def test_large_tensors_are_looked_up_to_the_same_codes(arithmetic: ScaleArithmetic, axis: int) -> None:
    x = torch.randn(512, 256, generator=torch.Generator().manual_seed(0))
    x[::2] *= torch.logspace(-6, 3, 256)
    x[5, 6], x[7, 8] = torch.nan, -torch.inf
    codes, scale, tensor = quantize_mx(x, NVFP4, axis=axis, arithmetic=arithmetic)
    for start in range(0, x.shape[1 - axis], 100):
        part = x.narrow(1 - axis, start, min(100, x.shape[1 - axis] - start))
        alone, alone_scale, _ = quantize_mx(part, NVFP4, axis=axis, arithmetic=arithmetic, tensor_scale=tensor)
        assert_same_bits(codes.narrow(1 - axis, start, part.shape[1 - axis]), alone)
        assert_same_bits(scale.narrow(1 - axis, start, part.shape[1 - axis]), alone_scale)


def test_golden_block() -> None:
    codes, scale, tensor = quantize_mx(torch.tensor([2688.0, -1344.0, 224.0, -0.0]), NVFP4)
    assert (codes.tolist(), scale.tolist(), tensor.item()) == ([7, 13, 1, 8], [0x7E], 1.0)


def test_a_tensor_without_elements() -> None:
    codes, scale, tensor = quantize_mx(torch.empty(3, 0), NVFP4)
    assert (codes.shape, scale.shape, tensor.item()) == ((3, 0), (3, 0), 1.0)


def test_float64_is_refused() -> None:
    with pytest.raises(TypeError, match="nvfp4 is computed in float32 and takes no float64; round x first"):
        quantize_mx(torch.ones(16, dtype=torch.float64), NVFP4)


@pytest.mark.parametrize("rule", [rule for rule in ScaleRule if rule is not ScaleRule.DIVIDE], ids=name_of)
def test_other_rules_are_refused(rule: ScaleRule) -> None:
    with pytest.raises(ValueError, match="nvfp4 takes the rule DIVIDE only"):
        quantize_mx(torch.ones(16), NVFP4, rule=rule)


@pytest.mark.parametrize("tensor_scale", [torch.ones(1), torch.ones((), dtype=torch.float64)], ids=str)
def test_other_tensor_scales_are_refused(tensor_scale: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"tensor_scale must be torch\.float32 of shape \(\), got torch"):
        quantize_mx(torch.ones(16), NVFP4, tensor_scale=tensor_scale)
