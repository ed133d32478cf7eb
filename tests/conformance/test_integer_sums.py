"""What becomes of sums of products of integers is said, of kernels that are known."""

import pytest
import torch
from torch import Tensor

from conformance.faults.int8_matmul import Int8, LeastCodeAbsolute, PairsSaturate, SumsIn16Bits
from conformance.faults.kernel import Kernel
from incref.conformance.implementation import Candidate, Implementation
from incref.conformance.integer_sums import probe_integers


@pytest.mark.parametrize("fmt", ["int8", "uint8"])
@pytest.mark.parametrize(
    ("box", "width"),
    [
        (Int8, "int32"),
        (PairsSaturate, "int16 that saturates, for pairs of products"),
        (SumsIn16Bits, "int16 that wraps"),
    ],
)
def test_the_width_is_seen(box: type[Kernel], width: str, fmt: str) -> None:
    found = probe_integers(box().candidate(), fmt)
    assert found.width == width
    assert bool(found.wrong) == (width != "int32") == bool(found.first)
    assert found.total > 1000


def test_what_happens_beyond_int32_is_seen() -> None:
    def saturating(x: Tensor, w: Tensor) -> Tensor:
        limits = torch.iinfo(torch.int32)
        return (x.double() @ w.double().T).clamp(limits.min, limits.max).to(torch.int32)

    assert "wraps: -2147483648" in probe_integers(Int8().candidate()).beyond
    assert "saturates: 2147483647" in probe_integers(Candidate(op="int8_matmul", fn=saturating)).beyond
    reference = Implementation.reference().candidates["int8_matmul"]
    assert "is refused (ValueError)" in probe_integers(reference).beyond


def test_sums_in_float32_are_seen() -> None:
    def once(x: Tensor, w: Tensor) -> Tensor:
        return (x.double() @ w.double().T).float()

    found = probe_integers(Candidate(op="int8_matmul", fn=once))
    assert found.width == "float32, rounded once"
    assert "1041 products gives 16790288, not 16790289" in found.first


def test_what_is_no_accumulator_is_none() -> None:
    assert probe_integers(LeastCodeAbsolute().candidate()).width == ""
