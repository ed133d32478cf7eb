"""The loop itself: it has to find a planted fault, and to skip what was already found right."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from conformance import record, runner
from conformance.expect import CHUNK, Mismatch
from conformance.runner import Outcome, Run, compare_runs, run_cases
from incref.oracle.segments import Segment

BASE = 0x3F800000


def sevens(x: Tensor) -> Tensor:
    return torch.full(x.shape, 7, dtype=torch.uint8)


def one_wrong(x: Tensor) -> Tensor:
    return sevens(x) + (x.view(torch.int32) == BASE + CHUNK + 5)


RUN = Run(start=BASE, stop=BASE + 4 * CHUNK, segments=(Segment(first=0, code=7),))


def test_equal_codes_have_no_mismatch() -> None:
    outcome = compare_runs(sevens, [RUN, RUN], name="right")
    assert (outcome.patterns, outcome.mismatches, outcome.first) == (8 * CHUNK, 0, None)


def test_one_wrong_code_of_millions_is_found() -> None:
    outcome = compare_runs(one_wrong, [RUN], name="wrong")
    assert (outcome.patterns, outcome.mismatches) == (4 * CHUNK, 1)
    assert outcome.first == Mismatch(pattern=BASE + CHUNK + 5, got=8, want=7)


def test_a_stride_leaves_chunks_out() -> None:
    outcome = compare_runs(one_wrong, [RUN], name="sampled", stride=2)
    assert (outcome.patterns, outcome.mismatches) == (2 * CHUNK, 0)


@dataclass(kw_only=True)
class Fake:
    mismatches: int
    key: str = "fake"
    op: str = "fake@1.0"
    runs: list[None] = field(default_factory=list)

    def check(self, *, console: Console | None) -> Outcome:
        assert console is None
        self.runs.append(None)
        first = Mismatch(pattern=1, got=2, want=3) if self.mismatches else None
        return Outcome(patterns=1000, mismatches=self.mismatches, first=first, seconds=0.5)

    def describe(self, mismatch: Mismatch) -> str:
        return f"pattern {mismatch.pattern}"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "load", lambda kind: record.load(kind, tmp_path))
    monkeypatch.setattr(runner, "store", lambda kind, key, result: record.store(kind, key, result, tmp_path))
    return tmp_path


@pytest.mark.usefixtures("results")
def test_what_was_right_is_not_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    case = Fake(mismatches=0)
    options = argparse.Namespace(again=False, quiet=True)
    assert [run_cases("fake", [case], options) for _ in range(2)] == [0, 0]
    assert len(case.runs) == 1
    assert "from an earlier run" in capsys.readouterr().out
    run_cases("fake", [case], argparse.Namespace(again=True, quiet=True))
    assert len(case.runs) == 2


def test_what_was_wrong_is_recorded_and_run_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Fake(mismatches=4)
    options = argparse.Namespace(again=False, quiet=True)
    assert [run_cases("fake", [case], options) for _ in range(2)] == [1, 1]
    assert len(case.runs) == 2
    found = record.load("fake", results)["fake"]
    assert isinstance(found, dict)
    assert (found["mismatches"], found["first_mismatch"], found["patterns"]) == (4, "pattern 1", 1000)
    assert "first: pattern 1" in capsys.readouterr().out
