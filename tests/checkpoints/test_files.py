import hashlib
import stat
from pathlib import Path

import pytest

from incref.checkpoints.files import atomic_directory, file_digest


def entries(path: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in path.iterdir()}


def test_a_new_directory_appears_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "down"
    with atomic_directory(target, last="b") as directory:
        (directory / "a").write_text("1")
        (directory / "b").write_text("2")
        assert not target.exists()
        assert directory.parent == target.parent
    assert entries(target) == {"a": "1", "b": "2"}
    assert [p.name for p in target.parent.iterdir()] == ["down"]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "x", last="a") as directory:
            (directory / "a").write_text("1")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write()
    assert [p.name for p in tmp_path.iterdir()] == []


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.mkdir()
    (target / "a").write_text("old")

    def write() -> None:
        with atomic_directory(target, last="a") as directory:
            (directory / "a").write_text("new")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write()
    assert entries(target) == {"a": "old"}
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_files_are_replaced_and_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.mkdir()
    (target / "a").write_text("old")
    (target / "tokenizer").write_text("kept")
    with atomic_directory(target, last="a") as directory:
        (directory / "a").write_text("new")
        (directory / "b").write_text("new")
    assert entries(target) == {"a": "new", "b": "new", "tokenizer": "kept"}
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_last_file_is_replaced_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x"
    target.mkdir()
    order: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(self.name), replace(self, to))[1])
    with atomic_directory(target, last="b") as directory:
        for name in ("a", "b", "c"):
            (directory / name).write_text(name)
    assert sorted(order) == ["a", "b", "c"]
    assert order[-1] == "b"


def test_permissions_are_those_of_any_new_directory(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with atomic_directory(tmp_path / "x", last="a"):
        pass
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_file_is_not_overwritten_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with (
        pytest.raises(NotADirectoryError, match="x is a file; give the name of a directory"),
        atomic_directory(tmp_path / "x", last="a"),
    ):
        pass
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_digest(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "x").write_bytes(data)
    assert file_digest(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_what_is_obsolete_goes(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.mkdir()
    for name in ("a", "b", "c.old", "d.old"):
        (target / name).write_text("old")
    (target / "down.old").mkdir()
    with atomic_directory(target, last="a", is_obsolete=lambda name: name.endswith(".old")) as directory:
        (directory / "a").write_text("new")
        (directory / "d.old").write_text("new")
    assert {p.name: p.read_text() for p in target.iterdir() if p.is_file()} == {"a": "new", "b": "old", "d.old": "new"}
    assert (target / "down.old").is_dir()


def test_the_last_file_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x"
    target.mkdir()
    for name in ("description", "tensors"):
        (target / name).write_text("old")

    def power_cut(*_: object) -> None:
        raise RuntimeError("power cut")

    def write() -> None:
        with atomic_directory(target, last="description") as directory:
            for name in ("description", "tensors"):
                (directory / name).write_text("new")
            monkeypatch.setattr(Path, "replace", power_cut)

    with pytest.raises(RuntimeError, match="power cut"):
        write()
    assert entries(target) == {"tensors": "old"}
