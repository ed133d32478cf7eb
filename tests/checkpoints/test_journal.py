from pathlib import Path

import pytest

from incref.checkpoints.files import write_atomically
from incref.checkpoints.journal import Journal


def test_result_is_found_under_its_key_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal")
    assert journal.get({"scheme": "a"}) is None
    journal.put({"scheme": "a"}, {"nll": [0.1, float("inf")]})
    assert journal.get({"scheme": "a"}) == {"nll": [0.1, float("inf")]}
    assert journal.get({"scheme": "b"}) is None


@pytest.mark.parametrize(
    "content", [b"", b'{"key": {"scheme": "a"}, "res', b"[]", b'{"key": {}, "result": {}}', b"\xff"]
)
def test_file_that_is_not_whole_counts_as_none(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    journal.put({"scheme": "a"}, {})
    next(tmp_path.iterdir()).write_bytes(content)
    assert journal.get({"scheme": "a"}) is None
    journal.put({"scheme": "a"}, {"nll": []})
    assert journal.get({"scheme": "a"}) == {"nll": []}


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
