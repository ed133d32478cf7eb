"""`incref conform replay`: run one case again and explain it."""

from typing import Annotated

import typer

from incref.cli.conform.options import ImplementationName, Seed, find_one, using_modules
from incref.conformance.answers import Answers, Judge
from incref.conformance.explain import explain
from incref.conformance.reproducer import reproducer
from incref.conformance.result import Status
from incref.conformance.run import plan_cases, run_case
from incref.conformance.shrink import shrink

__all__ = ["replay"]

_MOST_LEVEL = 2


def replay(
    implementation: ImplementationName,
    key: Annotated[str, typer.Argument(metavar="CASE", help="The key of a case, as a run prints it.")],
    seed: Seed = 0,
    judge: Annotated[Judge, typer.Option("--judge", help="Who says what is right.")] = Judge.REFERENCE,
) -> None:
    """Run one case again: what was asked, what came, what is right, and a program that shows it with few elements."""
    with using_modules():
        candidates = find_one(implementation).candidates
        op = key.partition("@")[0]
        if op not in candidates:
            raise typer.BadParameter(f"{implementation} has no {op!r}; it has {', '.join(candidates)}")
        candidate, answers = candidates[op], Answers(judge)
        case = next((one for one in plan_cases(candidate, level=_MOST_LEVEL, seed=seed) if one.key == key), None)
        if case is None:
            raise typer.BadParameter(f"no case has the key {key!r} with the seed {seed}")
        result = run_case(candidate, case, answers)
    typer.echo(explain(case, result))
    if result.status is Status.FAIL:
        small = shrink(candidate, case, answers)
        typer.echo(f"\nshrunk: {small.result.reason}\n\n{reproducer(small.case)}")
    if result.status.is_bad:
        raise typer.Exit(1)
