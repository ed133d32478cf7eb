"""`incref conform faults`: how many planted faults the suite finds."""

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from incref.cli.conform.options import using_modules
from incref.cli.console import stdout_console
from incref.cli.options import Quiet
from incref.conformance.faults import Control, Fault, Score, Verdict, score
from incref.conformance.report import Json
from incref.conformance.suite import SUITE

__all__ = ["as_json", "faults"]


def faults(  # noqa: PLR0917  # typer takes options by annotation
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="With tuples FAULTS and CONTROLS. The suite's own are in its repository: run there, or name yours.",
        ),
    ] = "conformance.faults.table",
    level: Annotated[int, typer.Option("--level", "-l", min=0, max=2, help="Up to this one.")] = 1,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Put controls through so many seeds.")] = 1,
    match: Annotated[str, typer.Option("--match", help="Only those whose name contains this.")] = "",
    json_: Annotated[Path | None, typer.Option("--json", help="Write the verdicts here.")] = None,
    quiet: Quiet = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Put wrong implementations through the suite, and right ones: the former must fail, the latter pass.

    The exit code is 1 if a fault is not found or a control is taken for faulty.
    """
    with using_modules():
        found = import_module(module)
        wrong: list[Fault] = [one for one in found.FAULTS if match in one.name]
        right: list[Control] = [one for one in found.CONTROLS if match in one.name]
        console = stdout_console()
        with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
            task = progress.add_task("faults and controls", total=len(wrong) + len(right) * seeds)

            def watch(verdict: Verdict) -> None:
                progress.update(task, advance=1, description=verdict.name)

            result = score(wrong, right, level=level, seeds=range(seeds), watch=watch)
        if json_ is not None:
            json_.write_text(json.dumps(as_json(result, level), indent=1) + "\n")
    for one in result.survivors:
        console.print(f"NOT FOUND {one.name}", markup=False)
    for one in result.alarms:
        console.print(f"ALARM {one.name}: {one.by}: {one.reason}", markup=False)
    for step in range(level + 1):
        console.print(f"level {step}: {result.killed(step)} of {len(result.faults)} faults found")
    console.print(f"{len(result.alarms)} alarms on {len(right)} controls, {seeds} seeds")
    if result.survivors or result.alarms or not result.faults:
        raise typer.Exit(1)


def as_json(found: Score, level: int) -> dict[str, Json]:
    """Give a score as JSON values."""
    ops = sorted({one.op for one in found.faults})
    return {
        "suite": SUITE,
        "level": level,
        "planted": len(found.faults),
        "killed": [found.killed(step) for step in range(level + 1)],
        "by_op": {
            op: {
                "planted": sum(one.op == op for one in found.faults),
                "killed": [
                    sum(one.op == op and one.killed_at is not None and one.killed_at <= step for one in found.faults)
                    for step in range(level + 1)
                ],
                "controls": len({one.name for one in found.controls if one.op == op}),
            }
            for op in ops
        },
        "controls": len({one.name for one in found.controls}),
        "seeds": max((sum(one.name == other.name for other in found.controls) for one in found.controls), default=0),
        "alarms": [one.name for one in found.alarms],
        "survivors": [one.name for one in found.survivors],
        "found_by": {one.name: f"level {one.killed_at}: {one.by}" for one in found.faults if one.killed_at is not None},
    }
