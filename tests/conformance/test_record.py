import json
from pathlib import Path

from conformance.record import RESULTS, environment, load, source_hash, store


def test_results_are_kept_by_key_and_replaced(tmp_path: Path) -> None:
    store("sweep", "b", {"mismatches": 1}, tmp_path)
    store("sweep", "a", {"mismatches": 0}, tmp_path)
    store("sweep", "b", {"mismatches": 2}, tmp_path)
    assert load("sweep", tmp_path) == {"a": {"mismatches": 0}, "b": {"mismatches": 2}}
    assert list(json.loads((tmp_path / "sweep.json").read_text())) == ["a", "b"]


def test_nothing_but_the_results_is_left_behind(tmp_path: Path) -> None:
    store("sweep", "a", {}, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sweep.json"]


def test_there_may_be_no_results_yet(tmp_path: Path) -> None:
    assert load("sweep", tmp_path) == {}


def test_the_environment_says_what_a_time_depends_on() -> None:
    assert {"processor", "cores", "python", "torch"} <= set(environment())


def test_the_hash_is_of_the_sources_alone() -> None:
    assert source_hash() == source_hash()
    assert len(source_hash()) == 16


def test_recorded_results_have_no_mismatches() -> None:
    for kind, count in (("sweep", "mismatches"), ("scales", "mismatches")):
        assert all(result[count] == 0 for result in load(kind, RESULTS).values() if isinstance(result, dict))
    for result in load("blocks", RESULTS).values():
        assert isinstance(result, dict)
        assert isinstance(result["bad"], dict)
        assert not any(result["bad"].values())
