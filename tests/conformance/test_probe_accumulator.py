from dataclasses import replace

import pytest

from conformance.faults.fp8_conv2d import ConvFused
from conformance.faults.fp8_matmul import Fp8, Fp8Bfloat16Declared, Fp8TruncatingInFull
from conformance.faults.int8_matmul import Int8
from conformance.faults.mx_matmul import MxWide
from conformance.faults.weight_only_matmul import WeightOnly, WeightOnlyPairwise
from incref.conformance.implementation import Implementation
from incref.conformance.probe_accumulator import Measured, probe_accumulator
from incref.conformance.product_sums import sums_of
from incref.formats import Rounding


def test_float32_in_order() -> None:
    want = Measured(bits=23, rounding=Rounding.NEAREST_EVEN, group=1, order="one after the other")
    assert probe_accumulator(Fp8().candidate(), length=8) == want
    assert probe_accumulator(WeightOnly().candidate(), length=8) == want


def test_a_tensor_core_that_truncates_groups() -> None:
    found = probe_accumulator(Fp8TruncatingInFull().candidate(), length=40)
    want = Measured(bits=13, rounding=Rounding.TOWARD_ZERO, group=32, order="all 32 at once")
    assert found == want


def test_bfloat16_sums() -> None:
    assert probe_accumulator(Fp8Bfloat16Declared().candidate(), length=8).bits == 7


def test_pairwise_sums_are_no_groups() -> None:
    found = probe_accumulator(WeightOnlyPairwise().candidate(), length=8)
    assert (found.bits, found.order) == (23, "neighbours, level by level")


def test_the_exact_reference_keeps_more_than_any_accumulator() -> None:
    reference = Implementation.reference().candidates["fp8_matmul"]
    assert probe_accumulator(reference, length=8).bits > 23


def test_every_product_in_floating_point_can_be_asked() -> None:
    for box in (ConvFused, MxWide):
        assert probe_accumulator(box().candidate(), length=8).bits >= 23
    assert probe_accumulator(ConvFused().candidate(), length=8).order == "one after the other"


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e4m3fnuz"])
def test_formats_of_fewer_exponents_show_the_same(fmt: str) -> None:
    found = probe_accumulator(Fp8TruncatingInFull().candidate(), fmt, length=40)
    assert found == Measured(bits=13, rounding=Rounding.TOWARD_ZERO, group=32, order="all 32 at once")
    want = Measured(bits=23, rounding=Rounding.NEAREST_EVEN, group=1, order="one after the other")
    assert probe_accumulator(Fp8().candidate(), fmt, length=8) == want
    for half in ("float16", "bfloat16"):
        assert probe_accumulator(WeightOnly().candidate(), half, length=8) == want


def test_of_the_formats_that_are_declared_the_widest_is_asked() -> None:
    box = replace(Fp8().candidate(), options={"x_fmt": ["float8_e4m3fnuz", "float8_e4m3fn"]})
    assert sums_of(box).fmt == "float8_e4m3fn"
    assert sums_of(replace(box, options={})).fmt == "float8_e5m2"


def test_others_are_refused() -> None:
    with pytest.raises(ValueError, match="accumulators are probed through"):
        probe_accumulator(Int8().candidate())
    with pytest.raises(ValueError, match="products of mxfp4 have too few exponents"):
        probe_accumulator(MxWide().candidate(), "mxfp4")
