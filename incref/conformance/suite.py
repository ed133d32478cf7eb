"""The version of the suite, and the digest of what decides its results."""

import hashlib
from pathlib import Path

import incref.errors

__all__ = ["SUITE", "suite_digest"]

SUITE = "2026.11"
"""Year and month; results of two versions need not agree. A case is never changed under its key: it gets another."""

_PARTS = ("conformance", "formats", "numerics", "ops", "oracle", "backends")


def suite_digest() -> str:
    """SHA-256 of the sources that decide what is asked and what is right, in hexadecimal."""
    package = Path(incref.errors.__file__).parent
    digest = hashlib.sha256()
    for part in _PARTS:
        for path in sorted((package / part).rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
