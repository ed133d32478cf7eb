"""Files of tensors that were made from a checkpoint, kept beside it and made again when it changes."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from safetensors.torch import save_file
from torch import Tensor

from incref.checkpoints.files import file_digest
from incref.errors import CheckpointError

__all__ = ["HPU_FILE", "cache_directory", "source_digest", "stamped_tensors"]

HPU_FILE = "hpu_model.safetensors"
"""Weights repacked for Gaudi. Neural Compressor calls its own file so, which has no stamp."""

_STAMPS = ("incref.layout", "incref.source", "incref.content")


def stamped_tensors(
    directory: Path, file: str, layout: str, build: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Give the tensors that `build` makes of the checkpoint in `directory`, from a file if there is one that fits.

    A file fits if its stamp says that it is in `layout`, was made of files with these digests, and holds what it held
    when it was written; any other is replaced. It is beside the checkpoint, or, where nothing can be written there, in
    `cache_directory`. Processes that do this at the same time don't disturb each other: each writes a file of its own
    and renames it.

    Args:
        directory: of the checkpoint.
        file: the name of the file.
        layout: what the tensors are, with a version.
        build: makes them.

    Raises:
        CheckpointError: if files of the checkpoint changed while the tensors were made of them.
    """
    source = source_digest(directory, file)
    places = [directory / file, cache_directory() / source / file]
    for place in places:
        found = _read(place, layout, source)
        if found is not None:
            return found
    tensors = {name: tensor.contiguous() for name, tensor in build().items()}
    if source_digest(directory, file) != source:
        raise CheckpointError(f"{directory}: the files of the checkpoint changed while they were read; load it again")
    for place in places:
        if _write(place, tensors, layout, source):
            break
    return tensors


def cache_directory() -> Path:
    """Where files go that can't be beside their checkpoint: incref in `XDG_CACHE_HOME`, which is ~/.cache if unset."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "incref"


def source_digest(directory: Path, file: str) -> str:
    """SHA-256 of the names and contents of all safetensors and JSON files of a directory, but for `file`."""
    paths = sorted(path for path in directory.iterdir() if path.suffix in (".safetensors", ".json") and path.is_file())
    listing = "".join(f"{path.name}\0{file_digest(path)}\n" for path in paths if path.name != file)
    return hashlib.sha256(listing.encode()).hexdigest()


def _read(path: Path, layout: str, source: str) -> dict[str, Tensor] | None:
    """The tensors of a file, or None if it is not there, damaged, or not the one that is wanted."""
    # Opening a pipe would wait for somebody who writes to it.
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            stamp = file.metadata() or {}
            if (stamp.get("incref.layout"), stamp.get("incref.source")) != (layout, source):
                return None
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError, RuntimeError):
        # A RuntimeError is PyTorch's, of a file that became shorter between two looks at it.
        return None
    return tensors if stamp.get("incref.content") == _content(tensors) else None


def _write(path: Path, tensors: Mapping[str, Tensor], layout: str, source: str) -> bool:
    """Write a file at once; False if it can't be written there."""
    stamp = dict(zip(_STAMPS, (layout, source, _content(tensors)), strict=True))
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        save_file(dict(tensors), temporary, metadata={"format": "pt", **stamp})
        Path(temporary).replace(path)
    except (OSError, SafetensorError):
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        return False
    return True


def _content(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(serialize({name: tensor.contiguous()}))
    return digest.hexdigest()
