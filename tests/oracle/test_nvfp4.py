"""NVFP4, with numpy's float32 arithmetic as the witness for its roundings."""

import math
from fractions import Fraction

import numpy as np
import pytest

from incref.formats import FORMATS, BlockFormat, BlockRule, FloatFormat, ScaleArithmetic
from incref.oracle.datum import Datum, datum_of
from incref.oracle.encode import encode
from incref.oracle.nvfp4 import quantize_scaled_block, tensor_scale
from incref.oracle.values import decode

NVFP4 = FORMATS["nvfp4"]
assert isinstance(NVFP4, BlockFormat)


def data_of(xs: np.ndarray) -> list[Datum]:
    return [datum_of(x) for x in xs.tolist()]


def test_the_tensor_scale_puts_amax_on_both_maxima() -> None:
    assert tensor_scale([datum_of(-2688.0), datum_of(1.0)], NVFP4).value == 1
    third = tensor_scale([datum_of(896.0)], NVFP4).value
    assert third == Fraction(float(np.float32(896.0) / np.float32(2688.0)))


def test_the_tensor_scale_of_zeros_is_one() -> None:
    assert tensor_scale([datum_of(0.0), datum_of(-0.0)], NVFP4).value == 1
    assert tensor_scale([], NVFP4).value == 1


def test_only_finite_elements_count_for_the_tensor_scale() -> None:
    assert tensor_scale([datum_of(math.inf), datum_of(math.nan), datum_of(2688.0)], NVFP4).value == 1


def test_the_tensor_scale_is_normal() -> None:
    assert tensor_scale([datum_of(2.0**-149)], NVFP4).value == Fraction(1, 2**126)


def test_a_block_under_the_scale_one() -> None:
    xs = [datum_of(x) for x in (3.0, -1.5, 0.25, -0.0)]
    # amax / 6 is 0.5, which E4M3 holds: 0x30. The elements are 6, -3, 0.5 and -0.
    assert quantize_scaled_block(xs, NVFP4, datum_of(1.0)) == ([0x7, 0xD, 0x1, 0x8], 0x30)


def test_a_scale_that_rounds_to_zero_makes_a_block_of_zeros() -> None:
    xs = [datum_of(x) for x in (2.0**-12, -(2.0**-12))]
    assert quantize_scaled_block(xs, NVFP4, datum_of(1.0)) == ([0x0, 0x8], 0x00)


@pytest.mark.parametrize("special", [math.nan, -math.inf])
def test_special_blocks(special: float) -> None:
    xs = [datum_of(6.0), datum_of(special)]
    rules = {"nan_block": BlockRule.NAN_BLOCK, "inf_block": BlockRule.NAN_BLOCK}
    assert quantize_scaled_block(xs, NVFP4, datum_of(1.0), **rules) == ([0, 0], 0x7F)


def test_inf_alone_and_in_a_saturated_block() -> None:
    xs = [datum_of(6.0), datum_of(-math.inf)]
    alone = quantize_scaled_block(xs, NVFP4, datum_of(1.0), inf_block=BlockRule.ELEMENT)
    assert alone == ([0x7, 0xF], 0x38)
    saturated = quantize_scaled_block(xs, NVFP4, datum_of(1.0), inf_block=BlockRule.SATURATE)
    assert saturated == ([0x0, 0xF], 0x7E)


def test_a_reciprocal_beyond_float32_counts_as_its_largest_value() -> None:
    """g = 2**-126 and s = 2**-9 have the reciprocal 2**135; zeros stay zeros."""
    xs = [datum_of(x) for x in (6 * 2.0**-135, -0.0, 2.0**-149)]
    found = quantize_scaled_block(xs, NVFP4, datum_of(2.0**-126), arithmetic=ScaleArithmetic.RECIPROCAL)
    assert found == ([0x0, 0x8, 0x0], 0x01)


@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
@pytest.mark.parametrize("exponent", [-110, -3, 0, 100])
def test_every_step_is_one_float32_operation(arithmetic: ScaleArithmetic, exponent: int) -> None:
    f32 = np.float32
    generator = np.random.default_rng(7)
    assert isinstance(NVFP4.scale, FloatFormat)
    blocks = np.ldexp(generator.standard_normal((40, 16), dtype=f32), exponent)
    g = f32(float(tensor_scale(data_of(blocks.ravel()), NVFP4).value))
    assert g == np.abs(blocks).max() / f32(2688.0)
    for block in blocks:
        codes, scale_code = quantize_scaled_block(data_of(block), NVFP4, datum_of(float(g)), arithmetic=arithmetic)
        wanted = np.abs(block).max() / f32(6.0) / g
        assert scale_code == encode(datum_of(float(wanted)), NVFP4.scale)
        s = f32(float(decode(scale_code, NVFP4.scale).value))
        scaled = block / (s * g) if arithmetic is ScaleArithmetic.DIVIDE else block * (f32(1.0) / g / s)
        assert scaled.dtype == np.float32
        assert codes == [encode(x, NVFP4.element) for x in data_of(scaled)]
