"""A run keeps what it found, operation by operation, and goes on where it was."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import runs
from conformance.record import Json
from incref.conformance.implementation import Implementation
from incref.conformance.result import Outcome, Result, Status
from incref.conformance.run import run

ARGUMENTS = ["reference", "--judge", "oracle", "--level", "0", "--op", "decode"]
KEY = "reference/oracle/level 0/decode"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Json]:
    found: dict[str, Json] = {}

    def store(_: str, key: str, result: Mapping[str, Json]) -> None:
        found[key] = dict(result)

    monkeypatch.setattr(runs, "load", lambda _: dict(found))
    monkeypatch.setattr(runs, "store", store)
    return found


def test_a_result_says_what_was_found_and_how_long_it_took(kept: dict[str, Json]) -> None:
    assert runs.main(ARGUMENTS) == 0
    assert list(kept) == [KEY]
    result = kept[KEY]
    assert isinstance(result, dict)
    assert result["verdict"] == "passed suite 2026.11 level 0 for decode"
    assert isinstance(result["processor_seconds"], float)
    assert result["not_passed"] == []


def test_what_has_a_result_for_these_sources_is_not_run_again(
    kept: dict[str, Json], capsys: pytest.CaptureFixture[str]
) -> None:
    runs.main(ARGUMENTS)
    first = kept[KEY]
    runs.main(ARGUMENTS)
    assert "from an earlier run" in capsys.readouterr().out
    assert kept[KEY] is first
    runs.main([*ARGUMENTS, "--again"])
    assert kept[KEY] is not first


def test_a_result_of_other_sources_or_of_a_failure_is_replaced(kept: dict[str, Json]) -> None:
    runs.main(ARGUMENTS)
    for change in ({"sources": "others"}, {"not_passed": ["fail decode"]}):
        old = kept[KEY]
        assert isinstance(old, dict)
        kept[KEY] = old | change
        runs.main(ARGUMENTS)
        assert kept[KEY] == old | {name: kept[KEY][name] for name in ("seconds", "processor_seconds")}  # type: ignore[index,call-overload]  # a dictionary


def test_a_cold_run_keeps_the_time_of_compiling(
    kept: dict[str, Json], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runs.main(["cpu", "--level", "0", "--op", "decode", "--workers", "1", "--cold"]) == 0
    result = kept["cpu/reference/level 0/decode"]
    assert isinstance(result, dict)
    assert result["first_processor_seconds"] > result["processor_seconds"] > 0  # type: ignore[operator]  # numbers
    assert not list(tmp_path.iterdir())


def test_a_cold_run_needs_processes_that_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runs.main(["cpu", "--cold"])
    assert "--cold needs --workers" in capsys.readouterr().err


def test_a_check_runs_all_of_it_and_keeps_nothing(kept: dict[str, Json], capsys: pytest.CaptureFixture[str]) -> None:
    runs.main(ARGUMENTS)
    first = kept.pop(KEY)
    assert isinstance(first, dict)
    assert runs.main([*ARGUMENTS, "--check"]) == 0
    assert not kept
    kept[KEY] = first
    assert runs.main([*ARGUMENTS, "--check"]) == 0
    assert kept[KEY] is first
    assert "from an earlier run" not in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--check"], []])
def test_an_operation_that_is_not_there_is_no_success(kept: dict[str, Json], options: list[str]) -> None:
    with pytest.raises(SystemExit, match="has no nosuch; its operations: "):
        runs.main(["reference", "--level", "0", "--op", "decode", "--op", "nosuch", *options])
    assert not kept


def test_what_is_wrong_is_said_and_fails(
    kept: dict[str, Json], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "run", _with_a_failure)
    assert runs.main([*ARGUMENTS, "--check"]) == 1
    assert not kept
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("decode: failed 1 of ")
    assert lines[1] == "  fail decode[some case]: another code"


def _with_a_failure(implementation: Implementation, **options: object) -> Outcome:
    outcome = run(implementation, **options)  # type: ignore[arg-type]  # what it was given
    wrong = Result(key="decode[some case]", op="decode", status=Status.FAIL, reason="another code")
    return replace(outcome, results=[*outcome.results, wrong])
