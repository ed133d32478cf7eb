"""NVFP4: blocks of E2M1 under an E4M3 scale, under one float32 scale for the tensor.

Every step is one float32 operation, correctly rounded: RN32 below.
"""

from collections.abc import Sequence

from incref.formats import FORMATS, BlockFormat, BlockRule, FloatFormat, Overflow, ScaleArithmetic
from incref.oracle.affine_scale import least_scale
from incref.oracle.arithmetic import divide, multiply
from incref.oracle.blocks import amax_of, fate_of_block, filler_code
from incref.oracle.datum import Datum, number
from incref.oracle.elements import PLAIN, ElementRules, encode_elements
from incref.oracle.encode import RandomBits, encode, round_to
from incref.oracle.ladder import greatest
from incref.oracle.specials import greatest_number, nan_code
from incref.oracle.values import decode

__all__ = ["operand", "quantize_scaled_block", "scale_code_of_block", "tensor_scale"]


def tensor_scale(xs: Sequence[Datum], fmt: BlockFormat) -> Datum:
    """Scale of a tensor: `RN32(amax / (qmax of the elements * qmax of the scales))`.

    Args:
        xs: all its elements; only the finite ones count.
        fmt: NVFP4, whose product of maxima is 6 * 448.

    Returns:
        A float32 value: 1 if amax is 0, and at least 2**-126 otherwise.

    >>> from incref.oracle.datum import datum_of
    >>> tensor_scale([datum_of(-5376.0)], FORMATS["nvfp4"]).value
    Fraction(2, 1)
    """
    amax = amax_of(xs)
    if amax == 0:
        return number(1)
    scale = _rn32(number(amax / (greatest(fmt.element) * greatest(fmt.scale))))
    return max(scale, number(least_scale(_float32())), key=lambda datum: datum.magnitude)


def quantize_scaled_block(
    xs: Sequence[Datum],
    fmt: BlockFormat,
    tensor: Datum,
    *,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    elements: ElementRules = PLAIN,
    random_bits: Sequence[RandomBits] | None = None,
) -> tuple[list[int], int]:
    """Quantize one block under the tensor scale g.

    The block scale is `s = E4M3(RN32(RN32(amax / 6) / g))`, to nearest even, saturating. An element is encoded from
    `RN32(x / RN32(s * g))` or, with the reciprocal, `RN32(x * RN32(RN32(1 / g) / s))`, that factor being at most the
    largest float32; under s = 0 every element is a zero of its sign.

    Args:
        xs: the elements; a ragged last block has fewer than `fmt.block_size`.
        fmt: NVFP4.
        tensor: g, a float32 value.
        arithmetic: division or multiplication by the reciprocal.
        nan_block: as for `quantize_block`.
        inf_block: as for `quantize_block`.
        elements: as for `quantize_block`.
        random_bits: one for each element, for stochastic rounding only.

    Returns:
        `(codes, scale_code)`; a NaN block has the scale 0x7F and elements 0.

    Source: NVIDIA, arXiv 2509.25149; `ScaleArithmetic` names the two orders in use.
    """
    scale_code = scale_code_of_block(xs, fmt, tensor, nan_block=nan_block, inf_block=inf_block)
    scale = decode(scale_code, fmt.scale)
    if scale.is_nan:
        return [filler_code(fmt.element)] * len(xs), scale_code
    if scale.magnitude == 0:
        scaled = [Datum(is_negative=x.is_negative) for x in xs]
    else:
        operation, by = (
            (divide if arithmetic is ScaleArithmetic.DIVIDE else multiply),
            operand(scale, tensor, arithmetic),
        )
        scaled = [_rn32(operation(x, by)) for x in xs]
    return encode_elements(scaled, fmt.element, elements, random_bits), scale_code


def scale_code_of_block(
    xs: Sequence[Datum], fmt: BlockFormat, tensor: Datum, *, nan_block: BlockRule, inf_block: BlockRule
) -> int:
    """Code of a block's scale, as for `quantize_scaled_block`."""
    fate = fate_of_block(xs, nan_block, inf_block)
    if fate is BlockRule.NAN_BLOCK:
        scale_nan = nan_code(fmt.scale, is_negative=False)
        assert scale_nan is not None
        return scale_nan
    if fate is BlockRule.SATURATE:
        return greatest_number(fmt.scale)
    share = _rn32(number(amax_of(xs) / greatest(fmt.element)))
    return encode(_rn32(divide(share, tensor)), fmt.scale, overflow=Overflow.SATURATE)


def operand(scale: Datum, tensor: Datum, arithmetic: ScaleArithmetic) -> Datum:
    """What the elements of a block are divided by, or for RECIPROCAL multiplied with; `scale` is not zero."""
    if arithmetic is ScaleArithmetic.DIVIDE:
        return _rn32(multiply(scale, tensor))
    inverse = _rn32(divide(_rn32(divide(number(1), tensor)), scale))
    return inverse if inverse.is_finite else number(greatest(_float32()))


def _rn32(x: Datum) -> Datum:
    return round_to(x, _float32())


def _float32() -> FloatFormat:
    fmt = FORMATS["float32"]
    assert isinstance(fmt, FloatFormat)
    return fmt
