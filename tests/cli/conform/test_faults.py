"""Scores of planted faults, written for all operations or onto those of others."""

from typing import Any

import pytest
import typer

from incref.cli.conform.faults import put_onto


def found(op: str, killed: list[int], *, survivors: int = 0, seeds: int = 5) -> dict[str, Any]:
    """A score of one operation."""
    names = [f"{op}.fault{i}" for i in range(killed[-1] + survivors)]
    return {
        "suite": "1",
        "level": 1,
        "planted": len(names),
        "killed": killed,
        "by_op": {op: {"planted": len(names), "killed": killed, "controls": 2}},
        "controls": 2,
        "seeds": seeds,
        "alarms": [],
        "survivors": names[killed[-1] :],
        "found_by": dict.fromkeys(names[: killed[-1]], f"level 1: of {op}"),
    }


def test_other_operations_keep_their_verdicts() -> None:
    both = put_onto(found("pack", [1, 2], survivors=1), found("decode", [3, 4]))
    assert list(both["by_op"]) == ["decode", "pack"]
    assert (both["planted"], both["killed"], both["controls"], both["seeds"]) == (7, [4, 6], 4, 5)
    assert both["survivors"] == ["pack.fault2"]
    assert len(both["found_by"]) == 6


def test_an_operation_that_was_asked_again_has_the_new_verdicts_alone() -> None:
    now = found("pack", [2, 2])
    assert put_onto(found("pack", [1, 3], survivors=1), now) == now


def test_scores_of_other_seeds_are_not_mixed() -> None:
    with pytest.raises(typer.BadParameter, match="seeds must be that of the file, 5, got 1"):
        put_onto(found("pack", [1, 2]), found("decode", [3, 4], seeds=1))
