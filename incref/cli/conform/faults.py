"""`incref conform faults`: how many planted faults the suite finds."""

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from incref.cli.conform.options import using_modules
from incref.cli.console import stdout_console
from incref.cli.options import Quiet
from incref.conformance.faults import Control, Fault, Score, Verdict, score
from incref.conformance.report import Json
from incref.conformance.suite import SUITE

__all__ = ["as_json", "faults", "put_onto"]


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
    onto: Annotated[
        Path | None, typer.Option("--onto", help="Keep what this file of --json has of other operations.")
    ] = None,
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
            verdicts = as_json(result, level)
            if onto is not None:
                verdicts = put_onto(json.loads(onto.read_text()), verdicts)
            json_.write_text(json.dumps(verdicts, indent=1) + "\n")
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


def put_onto(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Give the score of all operations, those that are in `now` as they are there.

    Args:
        earlier: what `as_json` gave.
        now: likewise, for some of the operations, all of their faults and controls.

    Raises:
        typer.BadParameter: if they are of different suites, levels or numbers of seeds.
    """
    for key in ("suite", "level", "seeds"):
        if earlier[key] != now[key]:
            raise typer.BadParameter(f"{key} must be that of the file, {earlier[key]}, got {now[key]}")
    ops = now["by_op"]

    def both(key: str) -> list[str]:
        return [*(name for name in earlier[key] if name.split(".")[0] not in ops), *now[key]]

    rows = dict(sorted({**earlier["by_op"], **ops}.items()))
    return {
        **{key: now[key] for key in ("suite", "level")},
        "planted": sum(row["planted"] for row in rows.values()),
        "killed": [sum(row["killed"][step] for row in rows.values()) for step in range(now["level"] + 1)],
        "by_op": rows,
        "controls": sum(row["controls"] for row in rows.values()),
        "seeds": now["seeds"],
        "alarms": both("alarms"),
        "survivors": both("survivors"),
        "found_by": {name: {**earlier["found_by"], **now["found_by"]}[name] for name in both("found_by")},
    }
