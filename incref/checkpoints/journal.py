"""Results kept as soon as they are there, one file each, so that a run that was stopped goes on where it was."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from incref.checkpoints.files import write_atomically
from incref.qtensor.format_json import Json

__all__ = ["Journal"]


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
