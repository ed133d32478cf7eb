"""Directories of safetensors files, one or several with an index, read and written without trusting either."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from incref.checkpoints.stamped import HPU_FILE
from incref.errors import CheckpointError
from incref.qtensor.format_json import Json

__all__ = ["INDEX_FILE", "TENSOR_FILE", "TensorFiles", "is_tensor_file", "parse_size", "read_json", "write_shards"]

TENSOR_FILE = "model.safetensors"
"""The file of a model that is in one."""
INDEX_FILE = f"{TENSOR_FILE}.index.json"
"""What says in which file each tensor of a model is, if there are several."""

_LARGEST_JSON = 100_000_000
"""Bytes of a JSON file that is read: as many as safetensors allows a header."""
_LISTED = 3
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_OURS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


@dataclass(frozen=True)
class TensorFiles:
    """The tensors of a directory by name, read when they are asked for.

    Attributes:
        files: for every tensor the file that it is in.
    """

    files: Mapping[str, Path]

    @classmethod
    def find(cls, directory: Path) -> "TensorFiles":
        """Find the tensors of the model in `directory`: by its index, or in its only safetensors file.

        Raises:
            CheckpointError: if there is no such file, or several without an index; if the index is no JSON object of
                that kind, names a file that is not beside it, or is at odds with what the files hold; if a file is
                truncated or no safetensors file, or two hold tensors of the same name.
        """
        index = directory / INDEX_FILE
        if not index.is_file():
            only = _only_file(directory)
            return cls(dict.fromkeys(_names(only), only))
        weight_map = _weight_map(index)
        paths = {file: _beside(index, file) for file in sorted(set(weight_map.values()))}
        found: dict[str, Path] = {}
        for file, path in paths.items():
            for name in _names(path):
                if name in found:
                    raise CheckpointError(
                        f"{directory}: {name} must be in one file, and is in {found[name].name} and {file}; "
                        "copy or download the model again"
                    )
                found[name] = path
        wrong = sorted(name for name in {*weight_map, *found} if found.get(name) != paths.get(weight_map.get(name, "")))
        if wrong:
            raise CheckpointError(
                f"{index}: every tensor must be in the file that weight_map says, and in no other; wrong: "
                f"{_listed(wrong)}; copy or download the model again"
            )
        return cls(found)

    @classmethod
    def of(cls, paths: list[Path]) -> "TensorFiles":
        """Take the tensors of the files `paths`, each of which has its own."""
        return cls({name: path for path in paths for name in _names(path)})

    def read(self, names: list[str] | None = None, device: str | torch.device = "cpu") -> dict[str, Tensor]:
        """Read tensors, all if no names are given.

        Raises:
            CheckpointError: if a file is damaged, or there is no tensor of that name.
        """
        with self.opened(device) as read:
            return read(list(self.files) if names is None else names)

    @contextmanager
    def opened(self, device: str | torch.device = "cpu") -> Iterator[Callable[[Sequence[str]], dict[str, Tensor]]]:
        """Give a function that reads tensors by name, as `read` does, and opens each file once only."""
        files: dict[Path, _File] = {}
        with ExitStack() as stack:

            def read(names: Sequence[str]) -> dict[str, Tensor]:
                missing = [name for name in names if name not in self.files]
                if missing:
                    raise CheckpointError(f"the checkpoint has no {_listed(missing)}")
                for path in {self.files[name] for name in names} - files.keys():
                    files[path] = stack.enter_context(_opened(path, device))
                return {name: files[self.files[name]].get_tensor(name) for name in names}

            yield read


def write_shards(tensors: Mapping[str, Tensor], directory: Path, max_shard_size: int | None = None) -> list[str]:
    """Write tensors to files of at most `max_shard_size` bytes each, a larger tensor alone; one file for None.

    Several files get the names and the index that transformers gives them. The order of the tensors is kept, so the
    same tensors give the same bytes.

    Returns:
        The names of the safetensors files.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if max_shard_size is not None and shards[-1] and size + tensor.nbytes > max_shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], directory / TENSOR_FILE, metadata={"format": "pt"})
        return [TENSOR_FILE]
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, directory / name, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
    }
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return names


def is_tensor_file(name: str) -> bool:
    """Whether `name` is one that `write_shards` gives."""
    return _OURS.fullmatch(name) is not None


def parse_size(size: int | str | None) -> int | None:
    """Bytes that `size` says: a number, or one with a unit such as "5GB" (10**9) or "5GiB" (2**30).

    Raises:
        ValueError: for anything else, and for 0.

    >>> parse_size("5GB"), parse_size("2MiB"), parse_size(7)
    (5000000000, 2097152, 7)
    """
    if size is None:
        return None
    found = _SIZE.fullmatch(str(size).strip())
    if found is None or isinstance(size, bool) or not (number := int(found[1])):
        raise ValueError(f'a size is a positive number of bytes, or a string such as "5GB", got {size!r}')
    step = 1024 if found[3] else 1000
    return int(number * step ** " KMGT".index(found[2].upper() or " "))


def read_json(path: Path) -> dict[str, Json]:
    """Read a JSON object from a file.

    Raises:
        CheckpointError: if the file can't be read, is too large, or holds anything else.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise CheckpointError(f"{path}: a JSON file has at most {_LARGEST_JSON} bytes, got {path.stat().st_size}")
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: the file must be JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: the file must hold a JSON object, got {type(value).__name__}")
    return value


def _without_repetition(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = value
    return found


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: there must be a weight_map from tensors to files, got {weight_map!r:.80}")
    for name, file in weight_map.items():
        if not isinstance(file, str):
            raise CheckpointError(f"{index}: the file of {name} must be a name, got {file!r:.80}")
    return {name: str(file) for name, file in weight_map.items()}


def _beside(index: Path, file: str) -> Path:
    """The file called `file` beside `index`; nowhere else, whatever the name or a link says."""
    if not file.endswith(".safetensors") or Path(file).name != file or "\\" in file or "\0" in file:
        raise CheckpointError(
            f"{index}: files must be safetensors beside the index, without any path, got {file!r:.120}; "
            "nothing was read from it"
        )
    path = index.parent / file
    if not path.is_file():
        raise CheckpointError(f"{index}: every file of weight_map must be there, missing: {file}")
    _require_inside(path)
    return path


def _require_inside(path: Path) -> None:
    """Refuse a link that leads out of the directory, unless to the blobs of the hub's cache that it is in."""
    directory, real = path.parent.resolve(), path.resolve()
    allowed = [directory]
    if directory.parent.name == "snapshots":
        allowed.append(directory.parent.parent / "blobs")
    if not any(real.is_relative_to(root) for root in allowed):
        raise CheckpointError(f"{path} is a link that leads out of its directory, to {real}; copy the file there")


def _only_file(directory: Path) -> Path:
    files = sorted(path for path in directory.glob("*.safetensors") if path.name != HPU_FILE)
    if (directory / TENSOR_FILE) in files:
        files = [directory / TENSOR_FILE]
    if not files:
        pickles = sorted(path.name for path in directory.glob("*") if path.suffix in _PICKLES)
        if pickles:
            raise CheckpointError(
                f"{directory}: weights must be in safetensors files, got {_listed(pickles)}; reading those could run "
                "code that they hold. Convert them where you trust them, with model.save_pretrained(DIR)"
            )
        raise CheckpointError(f"{directory} has no {TENSOR_FILE}; give the directory of a model")
    if len(files) > 1:
        raise CheckpointError(
            f"{directory}: several safetensors files need a {INDEX_FILE}, found {_listed([f.name for f in files])}"
        )
    _require_inside(files[0])
    return files[0]


class _File(Protocol):
    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> Tensor: ...


@contextmanager
def _opened(path: Path, device: str | torch.device = "cpu") -> Iterator[_File]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); copy, download or save it again"
        ) from error


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        names = list(file.keys())
    # The library takes the last of several tensors of one name.
    with path.open("rb") as raw:
        header = raw.read(int.from_bytes(raw.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise CheckpointError(f"{path}: names of tensors must be different: {error}") from error
    return names


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
