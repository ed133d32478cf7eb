"""Results of long runs: where they are kept, what produced them, and how they are written."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

import incref

__all__ = ["RESULTS", "Json", "available_cores", "environment", "load", "source_hash", "store"]

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

RESULTS = Path(__file__).parent / "results"
"""One JSON file a kind of run; its keys name what was run."""

_JUDGED = ("formats", "numerics", "ops", "oracle")
_PROGRAMS = ("block_classes.py", "blocks.py", "expect.py", "runner.py", "scales.py", "sweep.py")


def source_hash() -> str:
    """Digest of the sources that decide a result: the operations, all beneath them, the oracle and these programs."""
    digest = hashlib.sha256()
    package = Path(incref.__file__).parent
    judged = [path for name in _JUDGED for path in sorted((package / name).rglob("*.py"))]
    for path in (*judged, *(Path(__file__).parent / name for name in _PROGRAMS)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def environment() -> dict[str, Json]:
    """Say what a result was measured with."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": available_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def load(kind: str, folder: Path = RESULTS) -> dict[str, Json]:
    """Read the results of a kind of run; empty if there are none."""
    path = folder / f"{kind}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    assert isinstance(found, dict)
    return found


def store(kind: str, key: str, result: Mapping[str, Json], folder: Path = RESULTS) -> None:
    """Put one result among those of its kind; the file is replaced as a whole, so a reader never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    results = load(kind, folder) | {key: dict(result)}
    text = json.dumps(dict(sorted(results.items())), indent=1) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=f".{kind}-", suffix=".json", delete=False) as file:
        file.write(text)
    Path(file.name).replace(folder / f"{kind}.json")
