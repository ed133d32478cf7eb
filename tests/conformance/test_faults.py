"""The power of the suite is measured again: it finds what it found, and takes nothing right for wrong."""

import json

import pytest

from conformance.faults.table import CONTROLS, FAULTS
from conformance.record import RESULTS
from incref.conformance.faults import Control, Fault, score

RECORDED = json.loads((RESULTS / "faults.json").read_text())
OPS = sorted({fault.candidate.op for fault in FAULTS})


def test_there_are_enough_and_each_says_what_it_is() -> None:
    assert len(FAULTS) >= 100
    assert len(CONTROLS) >= 25
    names = [one.name for one in (*FAULTS, *CONTROLS)]
    assert len(set(names)) == len(names)
    assert all(len(one.story) > 10 for one in (*FAULTS, *CONTROLS))


def test_the_record_is_of_these_faults() -> None:
    assert RECORDED["planted"] == len(FAULTS)
    assert RECORDED["controls"] == len(CONTROLS)
    assert RECORDED["seeds"] >= 5
    assert RECORDED["alarms"] == []
    assert RECORDED["killed"][1] >= 0.95 * RECORDED["planted"]
    assert set(RECORDED["found_by"]) | set(RECORDED["survivors"]) == {fault.name for fault in FAULTS}


@pytest.mark.parametrize("op", OPS)
def test_the_score_has_not_fallen(op: str) -> None:
    planted = [fault for fault in FAULTS if fault.candidate.op == op]
    found = score(planted, [], level=1)
    recorded = RECORDED["by_op"][op]["killed"]
    assert [found.killed(level) >= recorded[level] for level in (0, 1)] == [True, True], found.survivors


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_what_is_right_is_not_taken_for_wrong(control: Control) -> None:
    # Level 1, and more seeds, are in the record: they take minutes.
    assert not score([], [control], level=0).alarms


def test_a_fault_that_is_right_survives_and_a_wrong_control_is_an_alarm() -> None:
    right, wrong = CONTROLS[-1], FAULTS[0]
    as_fault = Fault(name="right", story="nothing is wrong", candidate=right.candidate)
    as_control = Control(name="wrong", story="something is", candidate=wrong.candidate)
    found = score([as_fault], [as_control], level=0)
    assert [one.name for one in found.survivors] == ["right"]
    assert [one.name for one in found.alarms] == ["wrong"]
