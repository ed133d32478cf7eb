"""What other libraries say to every code, and to every bfloat16 and float16."""

import pytest
import torch
from torch import Tensor

from conformance.known_differences import KNOWN_DIFFERENCES, KnownDifference
from conformance.witnesses import INPUTS, WITNESSES, Witness, differing_inputs, sources
from incref.conformance.samples import all_codes
from incref.formats import FORMATS, FloatFormat
from incref.ops import decode

CASES = [pytest.param(witness, name, id=f"{witness.name}-{name}") for witness in WITNESSES for name in witness.overflow]
SOURCES = [pytest.param(x, id=name.removeprefix("torch.")) for name, x in sources().items()]


def float_format(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


@pytest.mark.parametrize(("witness", "name"), CASES)
def test_every_code_means_the_same(witness: Witness, name: str) -> None:
    codes = all_codes(float_format(name))
    ours, theirs = decode(codes, name), witness.decode(codes, name)
    is_equal = ours.view(torch.int32) == theirs.view(torch.int32)
    assert (is_equal | (ours.isnan() & theirs.isnan())).all()


@pytest.mark.parametrize("x", SOURCES)
@pytest.mark.parametrize(("witness", "name"), CASES)
def test_every_difference_is_known(witness: Witness, name: str, x: Tensor) -> None:
    left = differing_inputs(witness, name, x)
    for row in KNOWN_DIFFERENCES:
        if row.witness == witness.name and name in row.formats:
            left = left & ~INPUTS[row.inputs](x, float_format(name))
    assert not left.any(), f"{int(left.sum())} inputs differ for no known reason, first {float(x[left][0]).hex()}"


@pytest.mark.parametrize("row", KNOWN_DIFFERENCES, ids=lambda row: f"{row.witness}-{row.inputs}")
def test_every_known_difference_shows(row: KnownDifference) -> None:
    witness = next(one for one in WITNESSES if one.name == row.witness)
    for name in row.formats:
        shown = [
            int((differing_inputs(witness, name, x) & INPUTS[row.inputs](x, float_format(name))).sum())
            for x in sources().values()
        ]
        assert sum(shown) > 0, name
