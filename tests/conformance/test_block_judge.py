"""The oracle looks elements of blocks up among segments; their codes are those of one element after the other."""

import pytest
import torch

from incref.conformance.block_judge import extremes, mx_codes
from incref.conformance.judge import LAYOUTS, data_of
from incref.conformance.samples import block_rows, random_patterns, specials
from incref.formats import (
    BlockFormat,
    BlockRule,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleRule,
    SymmetricScale,
    get_format,
)
from incref.oracle.affine_scale import asymmetric_scale, symmetric_scale
from incref.oracle.blocks import amax_of, fate_of_block, quantize_block
from incref.oracle.elements import ElementRules

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
