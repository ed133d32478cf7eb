"""`incref conform run`: run an implementation through a level."""

import json
from pathlib import Path
from typing import Annotated

import typer

from incref.cli.conform.options import (
    ImplementationName,
    Level,
    Seed,
    find_one,
    find_profile,
    require_ops,
    using_modules,
)
from incref.cli.console import stdout_console
from incref.conformance.answers import Answers, Judge
from incref.conformance.explain import explain
from incref.conformance.html import as_html
from incref.conformance.implementation import Implementation
from incref.conformance.junit import as_junit
from incref.conformance.known_failures import read_known_failures
from incref.conformance.report import as_json, print_summary
from incref.conformance.reproducer import reproducer
from incref.conformance.result import Outcome, Status
from incref.conformance.run import plan_cases, run
from incref.conformance.shrink import shrink

__all__ = ["run_"]


def run_(  # noqa: PLR0917  # typer takes options by annotation
    implementation: ImplementationName,
    level: Level = 1,
    seed: Seed = 0,
    profile: Annotated[str | None, typer.Option("--profile", "-p", help="Only the cases of a profile.")] = None,
    op: Annotated[list[str] | None, typer.Option("--op", help="Only this operation; may be repeated.")] = None,
    match: Annotated[str, typer.Option("--match", help="Only cases with a key like this, such as '*/ties/*'.")] = "*",
    judge: Annotated[Judge, typer.Option("--judge", help="Who says what is right.")] = Judge.REFERENCE,
    known_failures: Annotated[
        Path | None, typer.Option("--known-failures", exists=True, dir_okay=False, help="TOML file of them; strict.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where the arguments lie.")] = "cpu",
    seconds: Annotated[float | None, typer.Option("--seconds", help="Begin no case later than that.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page that needs nothing else here.")] = None,
) -> None:
    """Run an implementation through the cases of a level.

    The exit code is 0 if it passed, 1 if a case is wrong or none was run. A filter or a limit makes a run that does not
    carry the name of its level.
    """
    with using_modules():
        known = () if known_failures is None else read_known_failures(known_failures)
        chosen, answers = find_one(implementation, device), Answers(judge)
        outcome = run(
            chosen,
            level=level,
            seed=seed,
            profile=find_profile(profile),
            ops=require_ops(op),
            match=match,
            answers=answers,
            known=known,
            device=device,
            most_seconds=seconds,
        )
        if json_ is not None:
            json_.write_text(json.dumps(as_json(outcome), indent=1) + "\n")
        if junit is not None:
            junit.write_text(as_junit(outcome))
        if html is not None:
            html.write_text(as_html(outcome, details=_first_failure(outcome, chosen, answers)))
    print_summary(outcome, stdout_console())
    if not outcome.is_good:
        raise typer.Exit(1)


def _first_failure(outcome: Outcome, implementation: Implementation, answers: Answers) -> str:
    """Explain the first case that failed, shrunk, with a program that shows it."""
    first = next((result for result in outcome.results if result.status is Status.FAIL), None)
    if first is None:
        return ""
    candidate = implementation.candidates[first.op]
    cases = plan_cases(candidate, level=min(outcome.level, 2), seed=outcome.seed)
    case = next((one for one in cases if one.key == first.key), None)
    if case is None:
        return ""
    small = shrink(candidate, case, answers)
    return f"{explain(small.case, small.result)}\n\n{reproducer(small.case)}"
