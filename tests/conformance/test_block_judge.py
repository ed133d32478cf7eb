"""The oracle looks elements of blocks up among segments; their codes are those of one element after the other."""

import pytest
import torch

from incref.conformance.block_judge import affine_values, extremes, float_values, mx_codes, spread_scales
from incref.conformance.judge import LAYOUTS, assert_same_bits, data_of, values_of
from incref.conformance.samples import block_rows, random_patterns, specials
from incref.formats import (
    BlockFormat,
    BlockRule,
    FloatFormat,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleRule,
    SymmetricScale,
    get_format,
)
from incref.numerics.granularity import per_block, per_group
from incref.oracle.affine_scale import asymmetric_scale, symmetric_scale
from incref.oracle.blocks import amax_of, fate_of_block, quantize_block
from incref.oracle.datum import number
from incref.oracle.elements import ElementRules
from incref.oracle.scaled import dequantize
from incref.oracle.values import decode

INT8 = get_format("int8")
assert isinstance(INT8, IntFormat)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("rounding", [Rounding.NEAREST_EVEN, Rounding.TOWARD_POSITIVE], ids=lambda one: one.value)
@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4", "mxint8"])
def test_looking_up_gives_the_codes_of_every_element_alone(name: str, rounding: Rounding, dtype: torch.dtype) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, BlockFormat)
    x = block_rows(dtype, fmt.block_size, seed=3)
    rules = ElementRules(rounding=rounding, overflow=Overflow.SATURATE, nan=NanRule.MAX, int_range=IntRange.RESTRICTED)
    specials = (BlockRule.ELEMENT, BlockRule.NAN_BLOCK)
    codes, scales = mx_codes(x, fmt, rule=ScaleRule.RCEIL, specials=specials, rules=rules)
    for row, got, scale in zip(x, codes.tolist(), scales.tolist(), strict=True):
        want = quantize_block(
            data_of(row), fmt, rule=ScaleRule.RCEIL, nan_block=specials[0], inf_block=specials[1], elements=rules
        )
        assert (got, scale) == want


def test_scales_are_those_of_all_elements() -> None:
    inputs = torch.cat([specials(torch.float32), random_patterns(200, torch.float32)])
    inputs = torch.cat([inputs, inputs[inputs.isfinite()].neg()])
    float32 = LAYOUTS[torch.float32]
    for size in (1, 2, 3, 16):
        blocks = [range(first, min(first + size, len(inputs))) for first in range(0, len(inputs), size)]
        for places, few in zip(blocks, extremes(inputs, blocks), strict=True):
            every = data_of(inputs[list(places)])
            assert fate_of_block(few, BlockRule.ELEMENT, BlockRule.SATURATE) is fate_of_block(
                every, BlockRule.ELEMENT, BlockRule.SATURATE
            )
            assert amax_of(few) == amax_of(every)
            for kind in SymmetricScale:
                assert symmetric_scale(few, INT8, float32, kind=kind) == symmetric_scale(
                    every, INT8, float32, kind=kind
                )
            assert asymmetric_scale(few, INT8, float32) == asymmetric_scale(every, INT8, float32)


def test_an_empty_block_has_no_extremes() -> None:
    assert list(extremes(torch.empty(0), [range(0)])) == [[]]


def _scales(dtype: torch.dtype) -> torch.Tensor:
    return torch.cat([specials(dtype), random_patterns(12, dtype)]).unsqueeze(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_products_with_scales_are_those_of_every_element_alone(name: str, dtype: torch.dtype) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    codes, scale = torch.arange(1 << fmt.bits), _scales(torch.float32)
    got = float_values(codes.expand(len(scale), -1), scale, fmt, per_group(len(codes)), dtype)
    values = [decode(code, fmt) for code in codes.tolist()]
    want = [dequantize(values, s, LAYOUTS[torch.float32], LAYOUTS[dtype]) for s in data_of(scale)]
    assert_same_bits(got, torch.stack([values_of(row, dtype) for row in want]))


@pytest.mark.parametrize("zero", [0, -3, 1 << 23, (1 << 31) - 1])
def test_differences_of_any_size_are_multiplied_as_every_one_alone(zero: int) -> None:
    codes, scale = torch.arange(-128, 128), _scales(torch.float32)
    zeros = torch.full_like(scale, zero, dtype=torch.int32)
    got = affine_values(codes.expand(len(scale), -1), scale, zeros, per_group(len(codes)), torch.float32)
    float32, numbers = LAYOUTS[torch.float32], [number(code - zero) for code in codes.tolist()]
    want = [dequantize(numbers, s, float32, float32) for s in data_of(scale)]
    assert_same_bits(got, torch.stack([values_of(row, torch.float32) for row in want]))


def test_scales_are_spread_over_blocks_that_end_early() -> None:
    scale = torch.arange(6.0).view(2, 3)
    spread = spread_scales(scale, (3, 5), per_block((2, 2)))
    assert spread.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert spread_scales(scale[:0], (0, 5), per_block((2, 2))).shape == (0, 5)
