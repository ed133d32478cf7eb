"""The suite at level 0: of every operation compiled for the CPU, and of some in the interpreter."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from incref.conformance.implementation import Implementation
from incref.conformance.result import Status
from incref.conformance.run import run
from incref_kernels.triton import BACKEND
from incref_kernels.triton.available import is_interpreting

# The interpreter takes minutes for others, which it runs in tests of their own; products of bfloat16 it gets wrong.
ASKED = ("encode", "decode", "compute_scale") if is_interpreting() else tuple(BACKEND.kernels)
TRITON = Implementation.of_backend(BACKEND)


@pytest.mark.parametrize("op", ASKED)
def test_every_case_passes_or_is_declined(op: str) -> None:
    outcome = run(TRITON, level=0, ops=[op])
    found = {one.key: one.reason for one in outcome.results if one.status not in (Status.PASS, Status.NOT_SUPPORTED)}
    assert not found
    assert any(one.status is Status.PASS for one in outcome.results)
