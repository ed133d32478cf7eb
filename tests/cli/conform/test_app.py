import json
from pathlib import Path

from typer.testing import CliRunner

from incref.cli.main import app
from incref.conformance.report import SCHEMA


def invoke(*arguments: str) -> object:
    return CliRunner().invoke(app, ["conform", *arguments])


def test_list_counts_the_cases_of_every_operation() -> None:
    found = json.loads(invoke("list", "--level", "0", "--json").stdout)
    assert all(row["cases"] > 0 for row in found["operations"].values())
    assert "reference" in found["implementations"]


def test_run_writes_json_and_says_what_passed(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result = invoke("run", "reference", "--level", "0", "--op", "pack", "--json", str(path))
    assert result.exit_code == 0
    assert "a part of suite" in result.stdout
    found = json.loads(path.read_text())
    assert found["schema"] == SCHEMA
    assert found["counts"]["pass"] == len(found["cases"]) > 0
    assert found["not_passed"] == []


def test_running_nothing_is_a_failure() -> None:
    result = invoke("run", "reference", "--level", "0", "--match", "nothing")
    assert result.exit_code == 1
    assert "no case was run" in result.stdout


def test_what_does_not_exist_is_named() -> None:
    assert "no operation is called" in invoke("run", "reference", "--op", "nonsense").stderr
    assert "no profile is called" in invoke("run", "reference", "--profile", "nonsense").stderr
    result = invoke("run", "no.such.module:thing")
    assert result.exit_code == 1
    assert "error: No module named" in result.stderr
