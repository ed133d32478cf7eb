"""What the kernels declare of the accumulators of devices."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")

from incref.backends.declared import ANY_ORDER, AnyGroups, AnyOf, AnyOrder
from incref.conformance.implementation import Implementation
from incref_kernels.triton import BACKEND
from incref_kernels.triton.targets import Target, assuming

CUDA = torch.device("meta")
SINGLES = AnyOrder(rounds_products=True)


def declared(target: Target) -> dict[str, object]:
    with assuming(target):
        table = Implementation.of_backend(BACKEND, CUDA).candidates
    return {op: table[op].accumulator for op in ("weight_only_matmul", "fp8_matmul", "mx_matmul")}


def test_on_hopper_codes_keep_fewer_bits_than_halves() -> None:
    halves = AnyGroups(group=16, fraction_bits=25, result_bits=23)
    assert declared(Target(kind="cuda", arch="sm_90")) == {
        "weight_only_matmul": AnyOf(models=(SINGLES, halves)),
        "fp8_matmul": AnyGroups(group=32, fraction_bits=13, result_bits=13),
        "mx_matmul": halves,
    }


def test_without_units_for_codes_they_are_added_as_halves() -> None:
    found = declared(Target(kind="cuda", arch="sm_80"))
    assert found["fp8_matmul"] == found["mx_matmul"] == AnyGroups(group=8, fraction_bits=24, result_bits=23)


@pytest.mark.parametrize("target", [Target(kind="cpu"), Target(kind="hip", arch="gfx90a")], ids=str)
def test_where_nothing_is_known_float32_is_claimed(target: Target) -> None:
    assert declared(target) == {"weight_only_matmul": SINGLES, "fp8_matmul": ANY_ORDER, "mx_matmul": ANY_ORDER}
