"""A run of `conformance.triton_l2` that was cut off goes on where it ended."""

import json
from pathlib import Path

import pytest

from conformance import triton_l2


def run(path: Path, *arguments: str) -> int:
    return triton_l2.main(["--json", str(path), "--sections", "decode", "--workers", "0", *arguments])


def test_what_was_found_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "found.json"
    assert run(path, "--limit", "2") == 0
    (first, _) = before = json.loads(path.read_text())["results"]
    # What is marked stays as it is, unless it is run again.
    found = json.loads(path.read_text())
    found["results"][first]["checked"] = 7
    path.write_text(json.dumps(found))
    assert run(path, "--limit", "3") == 0
    after = json.loads(path.read_text())["results"]
    assert list(after)[:2] == list(before)
    assert len(after) == 3
    assert after[first]["checked"] == 7
    monkeypatch.setattr(triton_l2, "_sources", lambda: "others")
    assert run(path, "--limit", "1") == 0
    assert json.loads(path.read_text())["results"][first]["checked"] > 7


def test_what_was_not_right_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    assert run(path, "--limit", "2", "--seconds", "-1") == 1
    assert json.loads(path.read_text())["summary"]["skipped"] == 2
    assert run(path, "--limit", "2") == 0
    assert json.loads(path.read_text())["summary"] == {
        "cases": 2,
        "skipped": 0,
        "errors": 0,
        "wrong": 0,
        "checked": 512,
    }


def test_totals_are_recorded_beside_those_of_other_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"a device": {"sections": {"sweep": {"cases": 825}}}}
    monkeypatch.setattr(triton_l2, "load", lambda _kind: stored)
    monkeypatch.setattr(triton_l2, "store", lambda _kind, name, result: stored.update({name: result}))
    run(tmp_path / "found.json", "--limit", "2", "--record", "a device")
    sections = stored["a device"]["sections"]
    assert sections["sweep"] == {"cases": 825}
    assert sections["decode"]["cases"] == 2
    assert sections["decode"]["of"] > 100
