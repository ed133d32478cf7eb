"""What a run found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from incref.conformance.comparison import Mismatch

__all__ = ["Outcome", "Result", "Status"]


class Status(Enum):
    """What became of a case."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    """The answer is wrong, or memory was touched that is not the call's."""
    ERROR = "error"
    """No answer: an exception, a crash, or no time left."""
    XFAIL = "xfail"
    """Wrong, as the author's file of known failures says."""
    XPASS = "xpass"
    """Right, though that file says it is wrong: the entry is out of date, and the run fails."""
    NOT_SUPPORTED = "not_supported"
    """The author says that the implementation does not do it; it is counted, and never a pass."""
    NOT_ANSWERED = "not_answered"
    """The judge that was chosen has no answer."""

    @property
    def is_bad(self) -> bool:
        """Whether a run with such a case fails."""
        return self in (Status.FAIL, Status.ERROR, Status.XPASS)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one case.

    Attributes:
        key: of the case.
        op: name of the operation.
        status: what became of it.
        reason: why, in words; empty for a pass.
        mismatch: what is wrong with the answer.
        hint: what all wrong places have in common, if anything.
        seconds: how long the implementation took.
    """

    key: str
    op: str
    status: Status
    reason: str = ""
    mismatch: Mismatch | None = None
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found.

    Attributes:
        implementation: its name.
        suite: version of the suite.
        level: that was asked for.
        seed: of random cases.
        profile: name of the profile, or None.
        judge: who said what is right.
        is_whole: whether every case of the level was run, and none left out by a filter, a limit or an early end.
        missing: operations that the profile needs and the implementation has not.
        declared: what the author declares, by operation.
        results: of every case, in their order.
        seconds: how long it took.
    """

    implementation: str
    suite: str
    level: int
    seed: int
    profile: str | None
    judge: str
    is_whole: bool
    missing: tuple[str, ...]
    declared: Mapping[str, Mapping[str, object]]
    results: Sequence[Result]
    seconds: float

    @property
    def counts(self) -> dict[Status, int]:
        """How many cases became what."""
        found = dict.fromkeys(Status, 0)
        for result in self.results:
            found[result.status] += 1
        return found

    @property
    def ops(self) -> tuple[str, ...]:
        """The operations that cases were run of."""
        return tuple(dict.fromkeys(result.op for result in self.results))

    @property
    def has_run(self) -> bool:
        """Whether there was an answer to judge at all."""
        counts = self.counts
        return bool(counts[Status.PASS] + counts[Status.FAIL] + counts[Status.ERROR] + counts[Status.XPASS])

    @property
    def is_good(self) -> bool:
        """Whether something was judged and nothing was wrong."""
        return self.has_run and not any(result.status.is_bad for result in self.results)

    @property
    def verdict(self) -> str:
        """One sentence; it never says "correct"."""
        if not self.has_run:
            return "failed: no case was run"
        counts = self.counts
        bad = sum(count for status, count in counts.items() if status.is_bad)
        if bad:
            return f"failed {bad} of {len(self.results)} cases of suite {self.suite} level {self.level}"
        if not self.is_whole:
            return f"passed {counts[Status.PASS]} cases, a part of suite {self.suite} level {self.level}"
        left = counts[Status.NOT_SUPPORTED] + counts[Status.NOT_ANSWERED] + counts[Status.XFAIL]
        if self.profile is not None and not (left or self.missing):
            return f"passed suite {self.suite} level {self.level}, profile {self.profile}"
        said = f"passed suite {self.suite} level {self.level} for {', '.join(self.ops)}"
        without = f"; without {left} cases that it does not support or is known to fail" if left else ""
        lacking = f"; profile {self.profile} is not met" if self.profile is not None else ""
        return said + without + lacking
