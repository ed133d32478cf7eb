"""Directories that are there as a whole or not at all, and digests of files."""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_directory", "file_digest", "write_atomically"]

_CHUNK = 1 << 20


@contextmanager
def atomic_directory(target: Path, last: str, is_obsolete: Callable[[str], bool] = lambda _: False) -> Iterator[Path]:
    """Give an empty directory to write into, which becomes `target` when the block ends without an exception.

    A new target appears with all its files at once. In a target that is there already, the file called `last` goes
    first and comes back last, so that there is none while files do not belong together; the others are replaced one by
    one, each at once. What is not replaced stays, unless it is obsolete.

    Args:
        target: what the directory becomes; the directories above it are made.
        last: name of a file that tells readers what the others are.
        is_obsolete: whether a file of that name goes if it is not replaced.

    Raises:
        NotADirectoryError: if `target` is a file.
    """
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give the name of a directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A sibling, since only a rename inside one file system is done at once.
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            _flush(path)
        if target.exists():
            (target / last).unlink(missing_ok=True)
            new = {path.name for path in temporary.iterdir()}
            for path in target.iterdir():
                if path.is_file() and path.name not in new and is_obsolete(path.name):
                    path.unlink()
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == last):
                path.replace(target / path.name)
        else:
            temporary.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees a part of it: into a temporary one beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
