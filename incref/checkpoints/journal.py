"""Results kept as soon as they are there, one file each, so that a run that was stopped goes on where it was."""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from incref.qtensor.format_json import Json

__all__ = ["Journal", "write_atomically"]


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


@dataclass(frozen=True)
class Journal:
    """A directory of results, each under the hash of what it is the result of.

    Attributes:
        directory: made when the first result is put there.
    """

    directory: Path

    def get(self, key: dict[str, Json]) -> dict[str, Json] | None:
        """Return the result of `key`, or None if there is none; a file that can't be read counts as none."""
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(entry, dict) or entry.get("key") != key or not isinstance(entry.get("result"), dict):
            return None
        result: dict[str, Json] = entry["result"]
        return result

    def put(self, key: dict[str, Json], result: dict[str, Json]) -> None:
        """Keep `result`; once this returns it outlives the process."""
        entry = {"key": key, "result": result}
        write_atomically(self._path(key), (json.dumps(entry, indent=2, allow_nan=True) + "\n").encode())

    def _path(self, key: dict[str, Json]) -> Path:
        return self.directory / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"
