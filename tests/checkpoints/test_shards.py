import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from incref.checkpoints.shards import TensorFiles, is_tensor_file, parse_size, read_json, write_shards
from incref.errors import CheckpointError

TENSORS = {"a": torch.arange(4.0), "b": torch.arange(6).view(2, 3), "c": torch.ones(2, dtype=torch.bfloat16)}
INDEX = "model.safetensors.index.json"


def write(directory: Path, max_shard_size: int | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    write_shards(TENSORS, directory, max_shard_size)
    return directory


@pytest.mark.parametrize(("size", "count"), [(None, 1), (16, 3), (1, 3), (52, 2), (1000, 1)])
def test_what_was_written_is_read(tmp_path: Path, size: int | None, count: int) -> None:
    names = write_shards(TENSORS, tmp_path, size)
    assert len(names) == count
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == names
    assert (tmp_path / INDEX).exists() == (count > 1)
    for files in (TensorFiles.find(tmp_path), TensorFiles.of([tmp_path / name for name in names])):
        read = files.read()
        assert read.keys() == TENSORS.keys()
        assert all(
            torch.equal(read[name], tensor) and read[name].dtype is tensor.dtype for name, tensor in TENSORS.items()
        )
        assert list(files.read(["c", "a"])) == ["c", "a"]


def test_the_index_is_that_of_transformers(tmp_path: Path) -> None:
    write(tmp_path, 52)
    assert json.loads((tmp_path / INDEX).read_text()) == {
        "metadata": {"total_size": 68},
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
            "c": "model-00002-of-00002.safetensors",
        },
    }


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write(tmp_path / name, 52)
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()


def test_a_file_of_any_name_if_it_is_the_only_one(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "gptq_model-4bit-128g.safetensors")
    assert TensorFiles.find(tmp_path).read().keys() == TENSORS.keys()
    save_file(TENSORS, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"several safetensors files need a model.safetensors.index.json, found"):
        TensorFiles.find(tmp_path)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors; give the directory of a model"):
        TensorFiles.find(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(
        CheckpointError, match=r"must be in safetensors files, got pytorch_model.bin; reading those could"
    ):
        TensorFiles.find(tmp_path)


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the checkpoint has no x, y"):
        TensorFiles.find(write(tmp_path)).read(["a", "x", "y"])


@pytest.mark.parametrize(
    "file",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "down/model.safetensors",
        "..",
        "",
        "model-00001-of-00002.bin",
        "..\\outside.safetensors",
        "\0.safetensors",
        "./model-00001-of-00002.safetensors",
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, file: str) -> None:
    directory = write(tmp_path / "x", 52)
    save_file(TENSORS, tmp_path / "outside.safetensors")
    _change_index(directory, lambda index: index["weight_map"].update(a=file))
    with pytest.raises(CheckpointError, match="files must be safetensors beside the index, without any path, got"):
        TensorFiles.find(directory)


def test_links_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "x", 52)
    shard = directory / "model-00001-of-00002.safetensors"
    shard.rename(tmp_path / "outside.safetensors")
    shard.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match=r"is a link that leads out of its directory, to .*outside"):
        TensorFiles.find(directory)
    single = write(tmp_path / "y")
    (single / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (single / "model.safetensors").symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match="is a link that leads out of its directory"):
        TensorFiles.find(single)


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    write(snapshot, 52)
    for path in sorted(snapshot.iterdir()):
        blob = snapshot.parent.parent / "blobs" / path.name[:9]
        path.rename(blob.with_suffix(path.suffix + path.name[6:11]))
        path.symlink_to(blob.with_suffix(path.suffix + path.name[6:11]))
    assert TensorFiles.find(snapshot).read().keys() == TENSORS.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must be JSON that can be read"),
        ("{", "must be JSON that can be read"),
        ("[" * 100_000, "must be JSON that can be read"),
        ("[]", "must hold a JSON object, got list"),
        ("{}", "there must be a weight_map from tensors to files, got None"),
        ('{"weight_map": {}}', "there must be a weight_map"),
        ('{"weight_map": ["a"]}', "there must be a weight_map"),
        ('{"weight_map": {"a": 1}}', "the file of a must be a name, got 1"),
        ('{"weight_map": {"a": {"__reduce__": "x"}}}', "the file of a must be a name"),
        ('{"weight_map": {"a": "model-00001-of-00002.safetensors", "a": "x"}}', "'a' stands there twice"),
        ('{"weight_map": {"a": "model-00009-of-00009.safetensors"}}', "missing: model-00009-of-00009"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    directory = write(tmp_path, 52)
    (directory / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        TensorFiles.find(directory)


def test_an_index_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(tmp_path, 52)
    monkeypatch.setattr("incref.checkpoints.shards._LARGEST_JSON", 100)
    with pytest.raises(CheckpointError, match="a JSON file has at most 100 bytes, got"):
        TensorFiles.find(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda index: index["weight_map"].pop("b"),
            r"every tensor must be in the file that weight_map says.*wrong: b;",
        ),
        (lambda index: index["weight_map"].update(z=index["weight_map"]["a"]), "wrong: z;"),
        (
            lambda index: index["weight_map"].update(a=index["weight_map"]["b"], q=index["weight_map"]["a"]),
            "wrong: a, q",
        ),
    ],
)
def test_an_index_at_odds_with_the_files_is_refused(
    tmp_path: Path, change: Callable[[dict[str, dict[str, str]]], object], message: str
) -> None:
    directory = write(tmp_path, 52)
    _change_index(directory, change)
    with pytest.raises(CheckpointError, match=message):
        TensorFiles.find(directory)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, 52)
    save_file({**TENSORS, "a": torch.zeros(4)}, directory / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"a must be in one file, and is in model-00001-of-00002.safetensors and"):
        TensorFiles.find(directory)


_F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _file(header: object, data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00",
        _file({"a": _F32})[:-1],
        _file({"a": _F32}) + b"x",
        _file({"a": _F32}, length=1 << 62),
        _file({"a": _F32}, length=1 << 30),
        _file(b"\xff\xfe"),
        _file(b"[]"),
        _file(b"null"),
        _file(b"{"),
        _file({"a": {**_F32, "shape": [3]}}),
        _file({"a": {**_F32, "shape": [1 << 40, 1 << 40]}}),
        _file({"a": {**_F32, "shape": [-2]}}),
        _file({"a": {**_F32, "shape": "2"}}),
        _file({"a": {**_F32, "dtype": "PICKLE"}}),
        _file({"a": {**_F32, "data_offsets": [8, 0]}}),
        _file({"a": {**_F32, "data_offsets": [0, 1 << 60]}}),
        _file({"a": _F32, "b": _F32}),
        _file({"a": _F32, "__metadata__": {"format": {"x": 1}}}),
        _file(b'{"a":' + json.dumps(_F32).encode() + b',"a":' + json.dumps(_F32).encode() + b"}"),
    ],
    ids=range(20),
)
def test_a_file_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors(:| is not a whole safetensors file)"):
        TensorFiles.find(tmp_path)


def test_sizes() -> None:
    assert [parse_size(size) for size in (None, 7, "7", "5 GB", "2KiB", "1mb", "3B", "1TiB")] == [
        None, 7, 7, 5 * 10**9, 2048, 10**6, 3, 1 << 40,
    ]  # fmt: skip
    for wrong in (0, -1, "0GB", "GB", "1.5GB", "", "1PB", True):
        with pytest.raises(ValueError, match="a size is a positive number of bytes, or a string such as"):
            parse_size(wrong)


def test_names_of_tensor_files() -> None:
    assert all(map(is_tensor_file, ("model.safetensors", INDEX, "model-00001-of-00002.safetensors")))
    assert not any(map(is_tensor_file, ("tokenizer.json", "adapter_model.safetensors", "model-1.safetensors.bak")))


def test_json_that_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a": [1, null]}')
    assert read_json(tmp_path / "x") == {"a": [1, None]}
    with pytest.raises(CheckpointError, match="must be JSON that can be read"):
        read_json(tmp_path / "nowhere")
    (tmp_path / "y").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="must be JSON that can be read"):
        read_json(tmp_path / "y")


def _change_index(directory: Path, change: Callable[[dict[str, dict[str, str]]], object]) -> None:
    index = json.loads((directory / INDEX).read_text())
    change(index)
    (directory / INDEX).write_text(json.dumps(index))
