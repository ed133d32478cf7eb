"""Runs an implementation through the cases of a level."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from incref.conformance.answers import Answers, canonical_codes
from incref.conformance.case import Bounded, Case, Exact, Placement, Related
from incref.conformance.comparison import Mismatch, as_results, compare_bits, compare_bound
from incref.conformance.generators.table import GENERATORS
from incref.conformance.hints import find_hint
from incref.conformance.implementation import Candidate, Choice, Implementation
from incref.conformance.known_failures import KnownFailure, find_known
from incref.conformance.memory import filling_new_memory, guards_hold, make_out, place
from incref.conformance.plan import Plan, is_symmetric, kept_bits, rounds_to_nearest
from incref.conformance.profiles import Profile
from incref.conformance.result import Outcome, Result, Status
from incref.conformance.suite import SUITE
from incref.errors import UnsupportedError
from incref.ops.contract import Exactness
from incref.ops.table import OPS

__all__ = ["plan_cases", "run", "run_case"]


def plan_cases(candidate: Candidate, *, level: int, seed: int = 0, least_level: int = 0) -> Iterator[Case]:
    """List the cases of a level for one candidate: those of all lower levels first.

    Args:
        candidate: its accumulator decides how many bits exact products may need.
        level: 0 to 3; 3 goes on until it is stopped, with ever new seeds.
        seed: of random cases.
        least_level: leave out the cases of lower levels.
    """
    seen: set[str] = set()
    for plan in _plans(least_level, level, _first_plan(candidate, seed)):
        for generator in GENERATORS[candidate.op]:
            for case in generator(plan):
                # Generators that cover pairs of options may come to the same case twice.
                if case.key not in seen:
                    seen.add(case.key)
                    yield case


def _first_plan(candidate: Candidate, seed: int) -> Plan:
    """What the declared accumulator lets cases ask."""
    if OPS[candidate.op].exactness is not Exactness.E2:
        return Plan(level=0, seed=seed)
    declared = candidate.accumulator
    return Plan(
        level=0,
        seed=seed,
        bits=kept_bits(declared),
        is_symmetric=is_symmetric(declared),
        is_nearest=rounds_to_nearest(declared),
    )


def _plans(least_level: int, level: int, first: Plan) -> Iterator[Plan]:
    for step in range(least_level, min(level, 2) + 1):
        yield replace(first, level=step)
    seed = first.seed
    while level > 2:
        seed += 1
        for step in (1, 2):
            yield replace(first, level=step, seed=seed, is_random_only=True)


def run(
    implementation: Implementation,
    *,
    level: int = 1,
    seed: int = 0,
    profile: Profile | None = None,
    ops: Sequence[str] = (),
    match: str = "*",
    answers: Answers | None = None,
    known: Sequence[KnownFailure] = (),
    device: torch.device | str = "cpu",
    most_seconds: float | None = None,
    least_level: int = 0,
    stop_at: Collection[Status] = (),
    leave_out: Collection[str] = (),
    watch: Callable[[Result], None] = lambda _: None,
) -> Outcome:
    """Run an implementation through the cases of a level.

    Args:
        implementation: what is judged.
        level: 0 to 3.
        seed: of random cases; what decides on it is part of the outcome.
        profile: only its cases; None for all.
        ops: only these operations; none for all that there are.
        match: only cases with a key like this pattern.
        answers: who says what is right; None for the references.
        known: failures that the author knows of.
        device: where the arguments lie.
        most_seconds: no case is begun later than that.
        least_level: leave out the cases of lower levels.
        stop_at: end at the first case of which one of these becomes.
        leave_out: keys of cases that are not run, because they were before.
        watch: told of every result.

    Returns:
        What was found. A run that a filter, a limit or an early end made incomplete says so, and its verdict does not
        carry the name of the level.
    """
    begun = time.perf_counter()
    judge = answers or Answers()
    chosen = [one for op, one in implementation.candidates.items() if _is_wanted(op, ops, profile)]
    is_whole, results = match == "*" and not (ops or least_level or leave_out) and level <= 2, list[Result]()
    for candidate in chosen:
        for case in plan_cases(candidate, level=level, seed=seed, least_level=least_level):
            if profile is not None and not profile.has(case):
                continue
            if case.key in leave_out or not fnmatchcase(case.key, match):
                continue
            if most_seconds is not None and time.perf_counter() - begun > most_seconds:
                is_whole = False
                break
            result = _as_known(run_case(candidate, case, judge, device=torch.device(device)), known)
            case.forget()
            results.append(result)
            watch(result)
            if result.status in stop_at:
                is_whole = False
                break
        else:
            continue
        break
    return Outcome(
        implementation=implementation.name,
        suite=SUITE,
        level=level,
        seed=seed,
        profile=None if profile is None else profile.name,
        judge=judge.judge.value,
        is_whole=is_whole,
        missing=() if profile is None else tuple(op for op in profile.ops if op not in implementation.candidates),
        declared={one.op: one.declaration() for one in chosen},
        results=results,
        seconds=time.perf_counter() - begun,
    )


def _is_wanted(op: str, ops: Sequence[str], profile: Profile | None) -> bool:
    return (not ops or op in ops) and (profile is None or op in profile.ops) and op in GENERATORS


def _as_known(result: Result, known: Sequence[KnownFailure]) -> Result:
    entry = find_known(result.key, known)
    if entry is None or result.status is Status.NOT_SUPPORTED:
        return result
    if result.status in (Status.FAIL, Status.ERROR):
        return replace(result, status=Status.XFAIL, reason=f"{entry.reason} ({entry.link}): {result.reason}")
    return replace(result, status=Status.XPASS, reason=f"it passes, but is listed as known to fail: {entry.reason}")


def run_case(candidate: Candidate, case: Case, answers: Answers, *, device: torch.device | None = None) -> Result:
    """Ask one case and judge the answer."""
    left = _why_left_out(candidate, case, answers)
    if left is not None:
        return left
    want = answers.find(case, candidate.choices)
    begun = time.perf_counter()
    try:
        got, found = _ask(candidate, case, want, device or torch.device("cpu"))
        if found is None and isinstance(case.expected, Related):
            want = _related(candidate, case, case.expected, want, device or torch.device("cpu"))
    except UnsupportedError as error:
        return _result(case, Status.NOT_SUPPORTED, str(error))
    except Exception as error:  # noqa: BLE001  # a kernel may raise anything
        return _result(case, Status.ERROR, f"{type(error).__name__}: {error}"[:2000], time.perf_counter() - begun)
    seconds = time.perf_counter() - begun
    found = found or _judge(candidate, case, got, want)
    if not isinstance(found, Mismatch):
        return _result(case, Status.FAIL if found else Status.PASS, found or "", seconds)
    words = (
        f"{found.count} of {found.total} elements of result {found.result} are wrong, first at {found.places[0]}: "
        f"got {found.got} ({found.got_bits}), want {found.want} ({found.want_bits})"
    )
    return Result(
        key=case.key,
        op=case.op,
        status=Status.FAIL,
        reason=words,
        mismatch=found,
        hint=find_hint(found),
        seconds=seconds,
    )


def _why_left_out(candidate: Candidate, case: Case, answers: Answers) -> Result | None:
    """Find out whether there is anything to ask and somebody to judge it."""
    try:
        why = candidate.why_not(case)
    except Exception as error:  # noqa: BLE001  # the author's function may raise anything
        return _result(case, Status.ERROR, f"supports() raised {type(error).__name__}: {error}")
    if why is not None:
        return _result(case, Status.NOT_SUPPORTED, why)
    why = answers.why_not(case)
    return None if why is None else _result(case, Status.NOT_ANSWERED, why)


def _result(case: Case, status: Status, reason: str, seconds: float = 0.0) -> Result:
    return Result(key=case.key, op=case.op, status=status, reason=reason, seconds=seconds)


def _related(
    candidate: Candidate, case: Case, relation: Related, like: tuple[Tensor, ...], device: torch.device
) -> tuple[Tensor, ...]:
    """What the answer to the related arguments says of the answer to the case; zeros are made positive."""
    arguments = relation.other(case.arguments)
    found, _ = _ask(candidate, replace(case, draw=lambda: arguments), like, device)
    return tuple(relation.back(one) + 0.0 for one in found)


def _judge(
    candidate: Candidate, case: Case, got: tuple[Tensor, ...], want: tuple[Tensor, ...]
) -> Mismatch | str | None:
    match case.expected:
        case Exact():
            if Choice.ANY_NAN_CODE in candidate.choices and len(got) == len(want):
                got, want = canonical_codes(got, case), canonical_codes(want, case)
            return compare_bits(got, want)
        case Related():
            return compare_bits(tuple(one + 0.0 for one in got), want)
        case Bounded() if Choice.EXACT_SUMS in candidate.choices:
            return compare_bits(got, want)
        case Bounded():
            return compare_bound(got, want[0], case.expected.allowed(case.arguments, candidate.accumulator))


def _ask(
    candidate: Candidate, case: Case, want: tuple[Tensor, ...], device: torch.device
) -> tuple[tuple[Tensor, ...], Mismatch | str | None]:
    """Call the implementation on placed arguments; the results, and what it did that it must not do."""
    placed = place(case.arguments, case.placement, device)
    outs, out_memory = make_out(want, device) if candidate.takes_out else (None, None)

    def call() -> tuple[Tensor, ...]:
        found = candidate.call(placed.arguments, outs)
        return as_results(outs if candidate.takes_out else found)

    if case.placement is Placement.REUSED:
        with filling_new_memory():
            placed.overwrite()
            # It may refuse these values.
            with suppress(Exception):
                call()
            placed.restore()
            results = tuple(one.clone() for one in call())
            again = call()
        if compare_bits(again, results) is not None:
            return results, "two calls with the same arguments gave different results"
    else:
        results = call()
    if changed := placed.changed():
        return results, f"the call wrote to or around its arguments {', '.join(changed)}"
    if out_memory is not None and not guards_hold(out_memory):
        return results, "the call wrote around its outputs"
    if wrong := {one.device.type for one in results} - {device.type}:
        return results, f"results must be on {device.type}, got {', '.join(sorted(wrong))}"
    return tuple(one.cpu() for one in results), None
