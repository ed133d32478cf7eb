"""Faults in the sources of the Triton kernels: compiled, judged and found."""

import json

import pytest

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.record import RESULTS
from conformance.triton_faults import find, mutated
from conformance.triton_mutations import MUTATIONS, Mutation

# One a step of arithmetic, scales, packing and products; the others take longer.
QUICK = ("ties_go_up", "scale_of_inf_is_finite", "sign_is_not_extended", "subnormal_blocks")


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.name in QUICK], ids=lambda one: one.name)
def test_is_found(mutation: Mutation) -> None:
    assert find(mutation)["level"] == 0


def test_all_are_recorded_as_found() -> None:
    found = json.loads((RESULTS / "triton_faults.json").read_text())["faults"]
    assert {name for name, verdict in found.items() if verdict["level"] is not None} == {one.name for one in MUTATIONS}


def test_a_change_of_what_is_not_there_is_refused() -> None:
    mutation = Mutation(name="none", story="", op="encode", file="encode.py", old="no such text", new="")
    with pytest.raises(ValueError, match=r"encode\.py must have 'no such text' once, got 0"), mutated(mutation):
        pass
