"""Quotients of whole tensors are the oracle's, pair by pair, and so are the codes that are looked up from them."""

import pytest
import torch
from torch import Tensor

from incref.conformance.block_judge import affine_codes, float_codes, nvfp4_codes
from incref.conformance.judge import LAYOUTS, data_of, values_of
from incref.conformance.quotients import round_to_integer, rounded_product, rounded_quotient
from incref.conformance.samples import block_rows, random_patterns, specials
from incref.errors import NanError
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    get_format,
)
from incref.numerics.granularity import PER_TENSOR, per_channel
from incref.oracle import affine
from incref.oracle.affine import quantize_affine
from incref.oracle.arithmetic import divide, multiply
from incref.oracle.elements import ElementRules
from incref.oracle.encode import round_to
from incref.oracle.nvfp4 import quantize_scaled_block
from incref.oracle.scaled import quantize_scaled

DETERMINISTIC = [one for one in Rounding if one is not Rounding.STOCHASTIC]
PAIRS = 400
SCALES = [0.0, 2.0**-149, 3e-39, 0.01, 1.0, 1 / 3, 3e38, float("inf"), float("nan"), -0.5]


def some(dtype: torch.dtype, count: int = PAIRS, seed: int = 0) -> Tensor:
    """Every special value, and patterns of all sizes."""
    return torch.cat([specials(dtype), random_patterns(count, dtype, seed=seed)]).to(torch.float64)


@pytest.mark.parametrize("to", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("operation", ["quotient", "product"])
def test_pairs_are_rounded_as_the_oracle_rounds_them(operation: str, to: torch.dtype) -> None:
    x, by = some(torch.float32), some(torch.float32, seed=1)
    near = some(torch.float16, seed=2)
    x, by = torch.cat([x, x.roll(1), near]), torch.cat([by, by.sign(), near.roll(1)])
    fast, exact = (rounded_quotient, divide) if operation == "quotient" else (rounded_product, multiply)
    want = values_of(
        [round_to(exact(a, b), LAYOUTS[to]) for a, b in zip(data_of(x), data_of(by), strict=True)], torch.float64
    )
    got = fast(x, by, LAYOUTS[to])
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.signbit(), want.signbit())
    assert torch.equal(got[~got.isnan()], want[~want.isnan()])


@pytest.mark.parametrize("rounding", DETERMINISTIC, ids=lambda one: one.value)
def test_whole_numbers_are_those_of_the_oracle(rounding: Rounding) -> None:
    x = torch.arange(-20, 21, dtype=torch.float64) / 4
    x = torch.cat([x, x + 2.0**-40, x - 2.0**-40, torch.tensor([2.0**51 - 0.5, 0.5 - 2.0**51])])
    want = [affine.round_to_integer(one.value, rounding) for one in data_of(x)]
    assert round_to_integer(x, rounding).tolist() == want


def test_stochastic_rounding_is_refused() -> None:
    with pytest.raises(ValueError, match="random bits"):
        round_to_integer(torch.zeros(1, dtype=torch.float64), Rounding.STOCHASTIC)


@pytest.mark.parametrize("arithmetic", list(ScaleArithmetic), ids=lambda one: one.value)
@pytest.mark.parametrize("name", ["int8", "uint4"])
def test_integers_are_those_of_every_block_alone(name: str, arithmetic: ScaleArithmetic) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, IntFormat)
    scale = torch.tensor(SCALES)
    x = torch.cat([specials(torch.float32), random_patterns(40, torch.float32), torch.linspace(-9, 9, 40)])
    x = torch.stack([x, *(x.clamp(-9, 9) * s for s in SCALES[1:])])
    zeros = torch.arange(len(SCALES), dtype=torch.int32) - 3
    for rounding in DETERMINISTIC:
        for nan in (NanRule.MAX, NanRule.ZERO):
            rules = ElementRules(rounding=rounding, nan=nan, int_range=IntRange.FULL)
            got = affine_codes(x, fmt, scale, zeros, per_channel(), arithmetic=arithmetic, rules=rules)
            for row, one, s, zero in zip(x, got.tolist(), data_of(scale), zeros.tolist(), strict=True):
                want = quantize_affine(
                    data_of(row),
                    fmt,
                    s,
                    LAYOUTS[torch.float32],
                    zero_point=zero,
                    arithmetic=arithmetic,
                    rounding=rounding,
                    nan=nan,
                    int_range=IntRange.FULL,
                )
                assert one == want


@pytest.mark.parametrize("quotient", list(QuotientDtype), ids=lambda one: one.value)
@pytest.mark.parametrize("arithmetic", list(ScaleArithmetic), ids=lambda one: one.value)
@pytest.mark.parametrize("overflow", list(Overflow), ids=lambda one: one.value)
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float4_e2m1fn"])
def test_floats_are_those_of_every_block_alone(
    name: str, overflow: Overflow, arithmetic: ScaleArithmetic, quotient: QuotientDtype
) -> None:
    fmt = get_format(name)
    assert not isinstance(fmt, BlockFormat)
    dtype = torch.bfloat16
    x = torch.cat([specials(dtype), random_patterns(120, dtype)])
    for s in SCALES:
        scale = torch.tensor(s)
        rules = ElementRules(rounding=Rounding.NEAREST_EVEN, overflow=overflow, nan=NanRule.MAX)
        got = float_codes(x, fmt, scale, PER_TENSOR, arithmetic=arithmetic, rules=rules, quotient=quotient)
        want = quantize_scaled(
            data_of(x),
            fmt,
            data_of(scale)[0],
            LAYOUTS[torch.float32],
            arithmetic=arithmetic,
            elements=rules,
            narrow=LAYOUTS[dtype] if quotient is QuotientDtype.INPUT else None,
        )
        assert got.tolist() == want


@pytest.mark.parametrize("arithmetic", list(ScaleArithmetic), ids=lambda one: one.value)
def test_blocks_of_nvfp4_are_those_of_every_block_alone(arithmetic: ScaleArithmetic) -> None:
    fmt = FORMATS["nvfp4"]
    assert isinstance(fmt, BlockFormat)
    rules = ElementRules(nan=NanRule.MAX)
    rows = block_rows(torch.float32, fmt.block_size)
    for size in (1.0, 2.0**-126, 3e34):
        tensor = torch.tensor(size)
        codes, scales, _ = nvfp4_codes(
            rows,
            fmt,
            tensor_scale=tensor,
            arithmetic=arithmetic,
            specials=(BlockRule.NAN_BLOCK, BlockRule.SATURATE),
            rules=rules,
        )
        for row, got, scale in zip(rows, codes.tolist(), scales.tolist(), strict=True):
            want = quantize_scaled_block(
                data_of(row),
                fmt,
                data_of(tensor)[0],
                arithmetic=arithmetic,
                nan_block=BlockRule.NAN_BLOCK,
                inf_block=BlockRule.SATURATE,
                elements=rules,
            )
            assert (got, scale) == want


def test_what_the_rule_refuses_is_refused() -> None:
    fmt = get_format("int8")
    assert isinstance(fmt, IntFormat)
    with pytest.raises(NanError, match="int8"):
        affine_codes(
            torch.tensor([1.0, float("nan")]),
            fmt,
            torch.tensor(1.0),
            None,
            PER_TENSOR,
            arithmetic=ScaleArithmetic.DIVIDE,
            rules=ElementRules(nan=NanRule.ERROR),
        )
