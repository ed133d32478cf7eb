"""Directories that can't be written to, also for a user who may write everywhere."""

import os
from pathlib import Path

import pytest

__all__ = ["forbid_writing"]


def forbid_writing(patch: pytest.MonkeyPatch, directory: Path) -> None:
    """Refuse new files in `directory` whose names begin with a dot, as those of all that is written do at first."""
    real = os.open

    def refuse(path: object, *arguments: object, **options: object) -> int:
        if str(path).startswith(f"{directory}{os.sep}."):
            raise PermissionError(path)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    patch.setattr(os, "open", refuse)
