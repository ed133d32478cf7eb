"""`incref conform list`: what can be judged, and by what."""

import json
from typing import Annotated

import typer
from rich.table import Table

from incref.cli.console import stdout_console
from incref.cli.options import AsJson
from incref.conformance.discovery import installed_implementations
from incref.conformance.generators.table import GENERATORS
from incref.conformance.implementation import Candidate
from incref.conformance.profiles import PROFILES
from incref.conformance.report import Json
from incref.conformance.run import plan_cases
from incref.conformance.suite import SUITE
from incref.ops.table import OPS

__all__ = ["list_"]


def list_(
    level: Annotated[int, typer.Option("--level", "-l", min=0, max=2, help="Count the cases of this level.")] = 1,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """List operations with their numbers of cases, profiles, and the implementations that are installed."""
    counts = {
        name: sum(1 for _ in plan_cases(Candidate(op=name, fn=OPS[name].reference), level=level)) for name in GENERATORS
    }
    if json_:
        found: dict[str, Json] = {
            "suite": SUITE,
            "level": level,
            "operations": {
                name: {"version": OPS[name].version, "class": OPS[name].exactness.name, "cases": count}
                for name, count in counts.items()
            },
            "profiles": {name: list(profile.ops) for name, profile in PROFILES.items()},
            "implementations": {**installed_implementations()},
        }
        typer.echo(json.dumps(found, indent=2))
        return
    console = stdout_console()
    table = Table(title=f"Suite {SUITE}, level {level}")
    for column in ("operation", "class", "cases"):
        table.add_column(column, justify="right" if column == "cases" else "left")
    for name, count in counts.items():
        table.add_row(f"{name}@{OPS[name].version}", OPS[name].exactness.name, str(count))
    console.print(table)
    for name, profile in PROFILES.items():
        console.print(f"profile {name}: {', '.join(profile.ops)}; {', '.join(sorted(profile.formats))}")
    for name, why in installed_implementations().items():
        console.print(f"implementation {name}{'' if why is None else f': {why}'}", markup=False)
