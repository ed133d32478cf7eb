import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from incref.checkpoints.shards import TensorFiles
from incref.checkpoints.stamped import HPU_FILE, cache_directory, source_digest, stamped_tensors
from incref.errors import CheckpointError

from .read_only import forbid_writing

Forge = Callable[[dict[str, Tensor], dict[str, str]], tuple[dict[str, Tensor], dict[str, str]]]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "model"
    directory.mkdir()
    save_file({"a": torch.arange(8)}, directory / "gptq_model.safetensors")
    (directory / "config.json").write_text("{}")
    return directory


class Build:
    """Counts how often tensors are made."""

    def __init__(self, value: float = 1.0) -> None:
        self.count = 0
        self.value = value

    def __call__(self) -> dict[str, Tensor]:
        self.count += 1
        return {"w": torch.full((3, 5), self.value).T, "z": torch.zeros(0, dtype=torch.int32)}


def get(directory: Path, build: Build, layout: str = "hpu/1") -> dict[str, Tensor]:
    return stamped_tensors(directory, HPU_FILE, layout, build)


def test_made_once(checkpoint: Path) -> None:
    build = Build()
    first, second = get(checkpoint, build), get(checkpoint, build)
    assert build.count == 1
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {"gptq_model.safetensors", "config.json", HPU_FILE}
    # The checkpoint is still the only one there.
    assert list(TensorFiles.find(checkpoint).files) == ["a"]


def _change_weights(path: Path) -> None:
    save_file({"a": torch.arange(1, 9)}, path / "gptq_model.safetensors")


def _change_config(path: Path) -> None:
    (path / "config.json").write_text('{"bits": 8}')


def _truncate(path: Path) -> None:
    (path / HPU_FILE).write_bytes((path / HPU_FILE).read_bytes()[:-3])


def _flip_a_bit(path: Path) -> None:
    data = bytearray((path / HPU_FILE).read_bytes())
    data[-1] ^= 1
    (path / HPU_FILE).write_bytes(data)


def _put_that_of_a_peer(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, path / HPU_FILE, metadata={"format": "pt"})


def _put_something(path: Path) -> None:
    (path / HPU_FILE).write_bytes(b"\x80pickle")


def _remove(path: Path) -> None:
    (path / HPU_FILE).unlink()


@pytest.mark.parametrize(
    "change",
    [_change_weights, _change_config, _truncate, _flip_a_bit, _put_that_of_a_peer, _put_something, _remove],
)
def test_made_again_if_it_does_not_fit(checkpoint: Path, change: Callable[[Path], None]) -> None:
    get(checkpoint, Build(1.0))
    change(checkpoint)
    build = Build(2.0)
    for _ in range(2):
        assert get(checkpoint, build)["w"].eq(2.0).all()
    assert build.count == 1
    assert load_file(checkpoint / HPU_FILE)["w"].eq(2.0).all()


def test_made_again_for_another_layout(checkpoint: Path) -> None:
    get(checkpoint, Build(1.0))
    assert get(checkpoint, Build(2.0), "hpu/2")["w"].eq(2.0).all()


def test_elsewhere_if_it_can_not_be_beside_the_checkpoint(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_writing(monkeypatch, checkpoint)
    build = Build()
    for _ in range(2):
        get(checkpoint, build)
    assert build.count == 1
    assert not (checkpoint / HPU_FILE).exists()
    kept = cache_directory() / source_digest(checkpoint, HPU_FILE) / HPU_FILE
    assert kept.is_file()


def test_given_also_if_it_can_be_kept_nowhere(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr("incref.checkpoints.stamped.tempfile.mkstemp", refuse)
    assert get(checkpoint, Build())["w"].eq(1.0).all()
    assert not (checkpoint / HPU_FILE).exists()


def test_an_interrupted_write_leaves_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("incref.checkpoints.stamped.save_file", fail)
    get(checkpoint, Build())
    assert {path.name for path in checkpoint.iterdir()} == {"gptq_model.safetensors", "config.json"}


def test_loaders_at_the_same_time(checkpoint: Path) -> None:
    found: list[bool] = []

    def load() -> None:
        found.extend(bool(get(checkpoint, Build(1.0))["w"].eq(1.0).all()) for _ in range(5))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20
    assert {path.name for path in checkpoint.iterdir()} == {"gptq_model.safetensors", "config.json", HPU_FILE}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_processes_at_the_same_time(checkpoint: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("loaders.py")), str(checkpoint)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in checkpoint.iterdir()} == {"gptq_model.safetensors", "config.json", HPU_FILE}


def test_a_checkpoint_that_changes_while_it_is_read(checkpoint: Path) -> None:
    def build() -> dict[str, Tensor]:
        _change_weights(checkpoint)
        return {"w": torch.zeros(1)}

    with pytest.raises(CheckpointError, match="the files of the checkpoint changed while they were read; load it"):
        stamped_tensors(checkpoint, HPU_FILE, "hpu/1", build)
    assert not (checkpoint / HPU_FILE).exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_replaced_and_not_waited_for(checkpoint: Path) -> None:
    os.mkfifo(checkpoint / HPU_FILE)
    assert get(checkpoint, Build(1.0))["w"].eq(1.0).all()
    assert (checkpoint / HPU_FILE).is_file()


def test_a_directory_of_that_name_is_left_alone(checkpoint: Path) -> None:
    (checkpoint / HPU_FILE).mkdir()
    build = Build()
    for _ in range(2):
        get(checkpoint, build)
    assert build.count == 1
    assert (checkpoint / HPU_FILE).is_dir()


def test_nothing_is_written_through_a_link(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"of somebody else")
    (checkpoint / HPU_FILE).symlink_to(other)
    get(checkpoint, Build(1.0))
    assert other.read_bytes() == b"of somebody else"
    assert not (checkpoint / HPU_FILE).is_symlink()


@pytest.mark.parametrize(
    "forge",
    [
        lambda tensors, _: (tensors, {}),
        lambda tensors, stamp: (tensors, {**stamp, "incref.layout": "hpu/0"}),
        lambda tensors, stamp: (tensors, {**stamp, "incref.source": "0" * 64}),
        lambda tensors, stamp: (tensors, {**stamp, "incref.content": ""}),
        lambda tensors, stamp: ({**tensors, "w": tensors["w"] + 1}, stamp),
        lambda tensors, stamp: ({**tensors, "w": tensors["w"].to(torch.float16)}, stamp),
        lambda tensors, stamp: ({**tensors, "w": tensors["w"].T.contiguous()}, stamp),
        lambda tensors, stamp: ({"v": tensors["w"], "z": tensors["z"]}, stamp),
        lambda tensors, stamp: ({"w": tensors["w"]}, stamp),
        lambda tensors, stamp: ({**tensors, "../w": torch.ones(1)}, stamp),
    ],
)
def test_made_again_if_the_stamp_is_not_its_own(checkpoint: Path, forge: Forge) -> None:
    get(checkpoint, Build(1.0))
    with safe_open(checkpoint / HPU_FILE, framework="pt") as file:
        stamp = file.metadata()
    tensors, stamp = forge(load_file(checkpoint / HPU_FILE), stamp)
    save_file(tensors, checkpoint / HPU_FILE, metadata=stamp)
    assert get(checkpoint, Build(2.0))["w"].eq(2.0).all()


def test_the_cache_is_where_the_user_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "incref"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "incref"
