"""Blocks whose elements share a power of two: the MX formats."""

from collections.abc import Sequence
from fractions import Fraction

from incref.formats import (
    BlockFormat,
    BlockRule,
    FloatFormat,
    IntFormat,
    ScaleRule,
)
from incref.oracle.arithmetic import divide, multiply
from incref.oracle.datum import Datum, number
from incref.oracle.elements import PLAIN, ElementRules, encode_elements
from incref.oracle.encode import RandomBits
from incref.oracle.powers import power_of_two
from incref.oracle.scales import GREATEST_EXPONENT, LEAST_EXPONENT, shared_exponent
from incref.oracle.specials import nan_code
from incref.oracle.values import decode

__all__ = [
    "amax_of",
    "decode_block",
    "exponent_of_block",
    "fate_of_block",
    "filler_code",
    "quantize_block",
]


def quantize_block(
    xs: Sequence[Datum],
    fmt: BlockFormat,
    *,
    rule: ScaleRule = ScaleRule.FLOOR,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    elements: ElementRules = PLAIN,
    random_bits: Sequence[RandomBits] | None = None,
) -> tuple[list[int], int]:
    """Quantize one block of an MX format.

    Args:
        xs: the elements; a ragged last block has fewer than `fmt.block_size`.
        fmt: a format without a tensor scale.
        rule: one that gives powers of two.
        nan_block: what a NaN does to the block.
        inf_block: what an Inf does to it; where both stand in a block, the stronger rule counts: NAN_BLOCK before
            SATURATE before ELEMENT.
        elements: how `x / scale`, which is exact, is encoded.
        random_bits: one for each element, for stochastic rounding only.

    Returns:
        `(codes, scale_code)`. A block without a finite element other than zero has scale code 0, that is `2**-127`.
        Under a NaN scale (code 255) elements are the element format's NaN, or 0 where it has none.

    Source: OCP MX 1.0, 5.1, 5.4.1 and 6.3.
    """
    exponent = exponent_of_block(xs, fmt, rule=rule, nan_block=nan_block, inf_block=inf_block)
    if exponent is None:
        scale_nan = nan_code(fmt.scale, is_negative=False)
        assert scale_nan is not None
        return [filler_code(fmt.element)] * len(xs), scale_nan
    scale = number(power_of_two(exponent))
    codes = encode_elements([divide(x, scale) for x in xs], fmt.element, elements, random_bits)
    return codes, exponent - LEAST_EXPONENT


def exponent_of_block(
    xs: Sequence[Datum], fmt: BlockFormat, *, rule: ScaleRule, nan_block: BlockRule, inf_block: BlockRule
) -> int | None:
    """The exponent that a block shares, as for `quantize_block`; None if its scale is NaN."""
    fate = fate_of_block(xs, nan_block, inf_block)
    if fate is BlockRule.NAN_BLOCK:
        return None
    return GREATEST_EXPONENT if fate is BlockRule.SATURATE else shared_exponent(amax_of(xs), fmt.element, rule)


def fate_of_block(xs: Sequence[Datum], nan_block: BlockRule, inf_block: BlockRule) -> BlockRule:
    """Say what the special elements of a block do to it; ELEMENT if there are none."""
    fates = {nan_block} if any(x.is_nan for x in xs) else set()
    if any(not x.is_finite and not x.is_nan for x in xs):
        fates.add(inf_block)
    for fate in (BlockRule.NAN_BLOCK, BlockRule.SATURATE):
        if fate in fates:
            return fate
    return BlockRule.ELEMENT


def amax_of(xs: Sequence[Datum]) -> Fraction:
    """The largest magnitude among the finite elements; 0 if there are none."""
    return max((x.magnitude for x in xs if x.is_finite), default=Fraction(0))


def filler_code(element: FloatFormat | IntFormat) -> int:
    """Code of the elements of a block whose scale is NaN."""
    code = nan_code(element, is_negative=False) if isinstance(element, FloatFormat) else None
    return 0 if code is None else code


def decode_block(
    codes: Sequence[int], scale_code: int, fmt: BlockFormat, *, tensor_scale: Datum | None = None
) -> list[Datum]:
    """Say what the elements of a block mean: `tensor_scale * scale * element`, exactly."""
    scale = decode(scale_code, fmt.scale)
    if tensor_scale is not None:
        scale = multiply(tensor_scale, scale)
    return [multiply(scale, decode(code, fmt.element)) for code in codes]
