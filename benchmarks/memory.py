"""How much memory a process takes that no file backs (RssAnon). Linux only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Growth", "watch_growth"]

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.001


@dataclass
class Growth:
    """By how many bytes the memory grew.

    Attributes:
        peak: at most, looked at every millisecond.
    """

    peak: int = 0


@contextmanager
def watch_growth() -> Iterator[Growth]:
    """Watch the anonymous memory of this process; what it was before is not counted."""
    before = _anonymous()
    found = Growth()
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(_INTERVAL):
            found.peak = max(found.peak, _anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        is_done.set()
        watcher.join()
        found.peak = max(found.peak, _anonymous() - before)


def _anonymous() -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the system does not say what memory a process has (RssAnon in {_STATUS})")
