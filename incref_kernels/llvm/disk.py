"""Compiled kernels on disk, below the user's cache directory."""

import os
import tempfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

__all__ = ["cache_directory", "source_digest", "write_whole"]


def cache_directory(name: str) -> Path:
    """Where the entries called `name` are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "incref" / name


def source_digest(folders: Iterable[Path]) -> str:
    """Digest of all Python sources below `folders`, in the order of their names."""
    parts = sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            parts.update(path.read_bytes())
    return parts.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that another process that reads it sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
