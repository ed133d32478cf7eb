import pytest

from conformance.faults.fp8_matmul import Fp8, Fp8Bfloat16Declared, Fp8TruncatingInFull
from conformance.faults.mx_matmul import MxWide
from conformance.faults.weight_only_matmul import WeightOnly, WeightOnlyPairwise
from incref.conformance.implementation import Implementation
from incref.conformance.probe_accumulator import Measured, probe_accumulator
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


def test_other_operations_are_refused() -> None:
    with pytest.raises(ValueError, match="accumulators are probed through"):
        probe_accumulator(MxWide().candidate())
