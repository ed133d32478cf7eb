"""How much memory a process takes that no file backs (RssAnon). Linux only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Growth", "anonymous_memory", "watch_growth"]

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
    before = _own()
    found = Growth()
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(_INTERVAL):
            found.peak = max(found.peak, _own() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        is_done.set()
        watcher.join()
        found.peak = max(found.peak, _own() - before)


def anonymous_memory(process: int | str = "self") -> int | None:
    """Bytes of memory of a process that no file backs; None if it has ended, or the system does not say."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def _own() -> int:
    own = anonymous_memory()
    if own is None:
        raise RuntimeError("the system does not say what memory a process has (RssAnon in /proc/self/status)")
    return own
