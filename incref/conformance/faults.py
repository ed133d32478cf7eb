"""The power of the suite: faults that it has to find, and right implementations that it must not reject."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from incref.conformance.answers import Answers
from incref.conformance.implementation import Candidate, Implementation
from incref.conformance.result import Status
from incref.conformance.run import run

__all__ = ["Control", "Fault", "Score", "Verdict", "score"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A wrong implementation, right but for one step.

    Attributes:
        name: of the fault.
        story: what is wrong, and how that comes about.
        candidate: the implementation.
        source: the public bug that it is modelled on, if there is one.
    """

    name: str
    story: str
    candidate: Candidate
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Control:
    """A right implementation that does it in another way, or makes another choice and declares it.

    Attributes:
        name: of the control.
        story: in what it differs.
        candidate: the implementation.
    """

    name: str
    story: str
    candidate: Candidate


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the suite said of one of them.

    Attributes:
        name: of the fault or control.
        op: of its operation.
        killed_at: the lowest level with a case that found something wrong, or None.
        by: key of the case that did, or for a control of one that passed.
        reason: what that case found.
        errors: how many cases ended with an exception; they do not count as found.
    """

    name: str
    op: str
    killed_at: int | None
    by: str = ""
    reason: str = ""
    errors: int = 0


@dataclass(frozen=True, kw_only=True)
class Score:
    """How many faults were found, and how many controls were taken for faulty.

    Attributes:
        faults: a verdict on each.
        controls: likewise, for every seed.
    """

    faults: Sequence[Verdict]
    controls: Sequence[Verdict]

    def killed(self, level: int) -> int:
        """How many faults the cases up to a level find."""
        return sum(one.killed_at is not None and one.killed_at <= level for one in self.faults)

    @property
    def alarms(self) -> list[Verdict]:
        """Controls that were found wrong, or raised, or passed nothing."""
        return [one for one in self.controls if one.killed_at is not None or one.errors or not one.by]

    @property
    def survivors(self) -> list[Verdict]:
        """Faults that no case found."""
        return [one for one in self.faults if one.killed_at is None]


def score(
    faults: Iterable[Fault],
    controls: Iterable[Control],
    *,
    level: int = 1,
    seeds: Sequence[int] = (0,),
    watch: Callable[[Verdict], None] = lambda _: None,
) -> Score:
    """Put faults and controls through a level.

    Args:
        faults: with the first seed only, up to the first case that finds something.
        controls: with every seed; what does not depend on it once.
        level: 0 to 2.
        seeds: of random cases.
        watch: told of every verdict.
    """
    answers = Answers()
    found_faults, found_controls = [], []
    for fault in faults:
        found_faults.append(_judge(fault, level, seeds[0], answers, is_fault=True))
        watch(found_faults[-1])
    for control in controls:
        passed: set[str] = set()
        for seed in seeds:
            found_controls.append(_judge(control, level, seed, answers, is_fault=False, passed=passed))
            watch(found_controls[-1])
    return Score(faults=found_faults, controls=found_controls)


def _judge(
    one: Fault | Control, level: int, seed: int, answers: Answers, *, is_fault: bool, passed: set[str] | None = None
) -> Verdict:
    """Run one; cases that are the same for every seed, and passed with another, are not run again."""
    implementation = Implementation.of(one.name, one.candidate)
    stop = (Status.FAIL,) if is_fault else (Status.FAIL, Status.ERROR)
    done = set() if passed is None else passed
    errors, last = 0, next(iter(done), "")
    for step in range(level + 1):
        outcome = run(
            implementation,
            level=step,
            least_level=step,
            seed=seed,
            answers=answers,
            stop_at=stop,
            leave_out=frozenset(done),
        )
        errors += outcome.counts[Status.ERROR]
        for result in outcome.results:
            if result.status in stop:
                return Verdict(
                    name=one.name,
                    op=one.candidate.op,
                    killed_at=step,
                    by=result.key,
                    reason=result.reason,
                    errors=errors,
                )
            if result.status is Status.PASS:
                last = result.key
                done.add(last)
    return Verdict(name=one.name, op=one.candidate.op, killed_at=None, by="" if is_fault else last, errors=errors)
