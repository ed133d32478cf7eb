"""Conformance as tests: `pytest --incref-impl=pkg.mod:register --incref-profile=mx --incref-level=1`.

Each case is a test, named by its key. What is not supported is skipped and counted; a run in which nothing was judged
fails.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from incref.conformance.answers import Answers
from incref.conformance.case import Case
from incref.conformance.discovery import find_implementations
from incref.conformance.implementation import Candidate
from incref.conformance.known_failures import KnownFailure, find_known, read_known_failures
from incref.conformance.profiles import PROFILES
from incref.conformance.result import Result, Status
from incref.conformance.run import plan_cases, run_case
from incref.conformance.suite import SUITE

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

_COUNTS = pytest.StashKey[dict[Status, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("incref", "conformance of implementations of incref's operations")
    group.addoption("--incref-impl", metavar="NAME", help="what is judged, as in `incref conform run`")
    group.addoption("--incref-profile", choices=[*PROFILES], help="only the cases of a profile")
    group.addoption("--incref-level", type=int, default=1, choices=range(3), help="0 to 2; 1 if left out")
    group.addoption("--incref-seed", type=int, default=0, help="of random cases")
    group.addoption("--incref-known-failures", metavar="FILE", type=Path, help="TOML file of them; strict")


class ConformanceFailure(Exception):  # noqa: N818  # a test that fails is no error
    """A case is wrong; the message says how."""


class ConformanceItem(pytest.Item):
    """A case as a test."""

    def __init__(
        self,
        name: str,
        parent: pytest.Session,
        *,
        candidate: Candidate,
        case: Case,
        answers: Answers,
        known: KnownFailure | None,
    ) -> None:
        """Keep what it runs."""
        super().__init__(name, parent)
        self.candidate, self.case, self.answers, self.known = candidate, case, answers, known

    def runtest(self) -> None:
        """Run the case."""
        result = run_case(self.candidate, self.case, self.answers)
        self.case.forget()
        self._count(result)
        if result.status is Status.NOT_SUPPORTED:
            pytest.skip(f"not supported: {result.reason}")
        if self.known is not None:
            if result.status is Status.PASS:
                raise ConformanceFailure(f"it passes, but is listed as known to fail: {self.known.reason}")
            pytest.xfail(f"{self.known.reason} ({self.known.link})")
        if result.status is not Status.PASS:
            raise ConformanceFailure(f"{result.reason}\n{result.hint}".strip())

    def _count(self, result: Result) -> None:
        counts = self.config.stash[_COUNTS]
        counts[result.status] = counts.get(result.status, 0) + 1

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Show what is wrong, without a traceback of the harness."""
        del style
        return f"{self.name}: {excinfo.value}" if excinfo.errisinstance(ConformanceFailure) else str(excinfo.getrepr())

    def reportinfo(self) -> tuple[Path, None, str]:
        """Say where it comes from."""
        return Path("incref/conformance"), None, self.name


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the cases, if an implementation is named; other tests then stay out."""
    if config.getoption("--incref-impl") is None:
        return
    config.stash[_COUNTS] = {}
    items[:] = _items(session, config)


def _items(session: pytest.Session, config: pytest.Config) -> Iterator[ConformanceItem]:
    chosen = config.getoption("--incref-profile")
    profile = None if chosen is None else PROFILES[chosen]
    path = config.getoption("--incref-known-failures")
    known = () if path is None else read_known_failures(path)
    answers = Answers()
    for implementation in find_implementations(config.getoption("--incref-impl")):
        for candidate in implementation.candidates.values():
            if profile is not None and candidate.op not in profile.ops:
                continue
            level, seed = config.getoption("--incref-level"), config.getoption("--incref-seed")
            for case in plan_cases(candidate, level=level, seed=seed):
                is_wanted = profile is None or profile.has(case)
                case.forget()
                if is_wanted:
                    yield ConformanceItem.from_parent(
                        session,
                        name=f"{implementation.name}:{case.key}",
                        candidate=candidate,
                        case=case,
                        answers=answers,
                        known=find_known(case.key, known),
                    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which nothing was judged."""
    counts = session.config.stash.get(_COUNTS, None)
    if counts is not None and not counts.get(Status.PASS) and exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was run, in the words of the suite."""
    counts = config.stash.get(_COUNTS, None)
    if counts is None:
        return
    said = ", ".join(f"{count} {status.value.replace('_', ' ')}" for status, count in counts.items()) or "nothing"
    level = config.getoption("--incref-level")
    terminalreporter.write_line(f"incref conformance suite {SUITE} level {level}: {said}")
