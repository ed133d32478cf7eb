"""The oracle looks elements of blocks up among segments; their codes are those of one element after the other."""

import pytest
import torch

from incref.conformance.block_judge import mx_codes
from incref.conformance.judge import data_of
from incref.conformance.samples import block_rows
from incref.formats import BlockFormat, BlockRule, IntRange, NanRule, Overflow, Rounding, ScaleRule, get_format
from incref.oracle.blocks import quantize_block
from incref.oracle.elements import ElementRules


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
