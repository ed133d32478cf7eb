"""An author's list of known failures: a file of his own, strict."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KnownFailure", "find_known", "read_known_failures"]


@dataclass(frozen=True, kw_only=True)
class KnownFailure:
    """Cases that are known to fail.

    Attributes:
        cases: a pattern of keys, as of file names: `quantize_mx@1.0/*/mxfp4*`.
        reason: why they fail.
        link: where that is being dealt with.
    """

    cases: str
    reason: str
    link: str

    def __post_init__(self) -> None:
        """Refuse an entry that gives no reason, or does not say where to read on."""
        if not self.reason.strip() or not self.link.strip():
            raise ValueError(f"a known failure needs a reason and a link, got none for {self.cases!r}")


def read_known_failures(path: Path) -> tuple[KnownFailure, ...]:
    """Read a TOML file with one table `[[known_failure]]` each, with `cases`, `reason` and `link`.

    Raises:
        ValueError: if an entry has other keys than these three.
    """
    found = tomllib.loads(path.read_text())
    rows = found.get("known_failure", [])
    if set(found) - {"known_failure"} or not all(set(row) == {"cases", "reason", "link"} for row in rows):
        raise ValueError(f"{path}: each [[known_failure]] must have cases, reason and link, and nothing else")
    return tuple(KnownFailure(**row) for row in rows)


def find_known(key: str, known: Sequence[KnownFailure]) -> KnownFailure | None:
    """Find the entry that a case falls under, or None."""
    return next((one for one in known if fnmatchcase(key, one.cases)), None)
