"""Rows are complete, or say what they lack."""

import pytest
import torch

from conformance.accumulators.replay import draw
from incref.conformance.bounds import error_bound
from incref.errors import UnsupportedError
from incref.formats import FORMATS, BlockFormat, FloatFormat
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Aligned
from incref.numerics.accumulate.table import MACHINES, Evidence, MachineRow, find_accumulator


@pytest.mark.parametrize("row", MACHINES.values(), ids=lambda row: row.name)
def test_a_row_is_computed_or_refused(row: MachineRow) -> None:
    assert row.source
    assert row.note
    for name in row.formats:
        fmt = FORMATS[name]
        assert isinstance(fmt, FloatFormat | BlockFormat)
        if row.evidence is Evidence.OPEN:
            with pytest.raises(UnsupportedError, match=f"{row.name} can't be computed: "):
                find_accumulator(row.name)
        else:
            assert isinstance(fmt, FloatFormat)
            a, b = draw("normal", 3, 300, fmt, 1), draw("normal", 3, 300, fmt, 2)
            model = find_accumulator(row.name)
            error = accumulate(a, b, fmt, fmt, model).double() - a.double() @ b.double().T
            assert (error.abs() <= error_bound(a, b, fmt, fmt, model)).all()


def test_a_row_has_a_model_unless_it_is_open() -> None:
    for model, evidence in (
        (None, Evidence.PUBLISHED),
        (Aligned(group=1, fraction_bits=1, result_bits=1), Evidence.OPEN),
    ):
        with pytest.raises(ValueError, match="x: a row has a model unless it is open"):
            MachineRow(name="x", formats=(), model=model, evidence=evidence, source="", note="")


def test_a_row_of_a_device_says_which_results() -> None:
    model = Aligned(group=1, fraction_bits=1, result_bits=1)
    for evidence, measured in ((Evidence.MEASURED, ()), (Evidence.PUBLISHED, ("m",))):
        with pytest.raises(
            ValueError, match="x: a row that rests on results of a device says which, and no other does"
        ):
            MachineRow(name="x", formats=(), model=model, evidence=evidence, source="", note="", measured=measured)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no machine is called 'abacus'; there are hopper_wgmma_fp8, "):
        find_accumulator("abacus")


def test_hopper_keeps_fourteen_bits() -> None:
    fmt = FORMATS["float8_e4m3fn"]
    assert isinstance(fmt, FloatFormat)
    model = find_accumulator("hopper_wgmma_fp8")
    for bits, want in ((13, 1.0), (14, 0.0)):
        a = torch.tensor([[2.0 ** (bits - 8), 2.0**-8, -(2.0 ** (bits - 8))]])
        assert accumulate(a, torch.full((1, 3), 256.0), fmt, fmt, model).item() == want
