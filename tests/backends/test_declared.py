"""What backends declare of their accumulators, and what a device decides of it."""

import pytest
import torch

from incref.backends.backend import Backend, Kernel
from incref.backends.declared import ANY_ORDER, AnyGroups, AnyOf, AnyOrder, in_any_order
from incref.conformance.implementation import Implementation
from incref.numerics.accumulate.models import Aligned, Carry, Pairwise, Promoted, Reordered, Sequential, SplitK
from incref.numerics.accumulate.table import find_accumulator
from incref.ops import fp8_matmul

NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)


def test_what_holds_in_any_order() -> None:
    assert in_any_order(Sequential(is_fused=True)) == ANY_ORDER
    assert in_any_order(Pairwise()) == in_any_order(Sequential()) == AnyOrder(rounds_products=True)
    groups = AnyGroups(group=32, fraction_bits=13, result_bits=13)
    for model in (NARROW, Promoted(inner=NARROW, every=128), SplitK(inner=NARROW, parts=3, tile=64)):
        assert in_any_order(model) == groups
    assert in_any_order(find_accumulator("gaudi2_mme_fp8")).flushes


@pytest.mark.parametrize(
    "model",
    [
        Reordered(inner=Aligned(group=2, fraction_bits=13, result_bits=13), order=(1, 0)),
        Aligned(group=8, fraction_bits=24, result_bits=23, carry=Carry.REALIGNED, carry_bits=31),
    ],
    ids=str,
)
def test_what_does_not_hold_is_not_said(model: Reordered | Aligned) -> None:
    with pytest.raises(ValueError, match="AnyGroups holds for consecutive groups that are not REALIGNED"):
        in_any_order(model)


def test_a_choice_is_one_level_of_several() -> None:
    with pytest.raises(ValueError, match="at least two"):
        AnyOf(models=(NARROW,))
    with pytest.raises(ValueError, match="none of them a choice"):
        AnyOf(models=(NARROW, AnyOf(models=(NARROW, ANY_ORDER))))  # type: ignore[arg-type]


def test_a_kernel_says_how_it_adds_on_a_device() -> None:
    def declared(device: torch.device) -> AnyOrder | AnyGroups:
        return AnyGroups(group=8, fraction_bits=24, result_bits=23) if device.type == "meta" else ANY_ORDER

    kernel = Kernel(fn=fp8_matmul.reference, why_not=lambda *_, **__: None, accumulator=declared)
    backend = Backend(name="two", why_unavailable=lambda: None, kernels={"fp8_matmul": kernel})
    for device in ("cpu", "meta"):
        candidate = Implementation.of_backend(backend, device).candidates["fp8_matmul"]
        assert candidate.accumulator == declared(torch.device(device))
    plain = Kernel(fn=fp8_matmul.reference, why_not=lambda *_, **__: None)
    assert plain.accumulator_on(torch.device("meta")) == ANY_ORDER
