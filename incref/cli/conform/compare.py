"""`incref conform compare`: what changed between two results."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from incref.cli.conform.options import using_modules
from incref.conformance.report import SCHEMA

__all__ = ["compare"]

_MOST_SHOWN = 20


def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", exists=True, dir_okay=False, help="JSON of a run.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", exists=True, dir_okay=False, help="JSON of another.")],
) -> None:
    """Say which cases two results judge differently; the exit code is 1 if one passes no longer."""
    with using_modules():
        cases = []
        for path in (before, after):
            found = json.loads(path.read_text())
            if found.get("schema") != SCHEMA:
                raise ValueError(f"{path} must be a result with the schema {SCHEMA}")
            cases.append(found["cases"])
    old, new = cases
    changes = [(key, old.get(key, "absent"), new.get(key, "absent")) for key in {**old, **new}]
    changes = [change for change in changes if change[1] != change[2]]
    for (was, now), count in sorted(Counter((was, now) for _, was, now in changes).items()):
        typer.echo(f"{count} cases: {was} -> {now}")
    for key, was, now in changes[:_MOST_SHOWN]:
        typer.echo(f"  {key}: {was} -> {now}")
    if not changes:
        typer.echo(f"no difference in {len(new)} cases")
    if any(was == "pass" and now != "pass" for _, was, now in changes):
        raise typer.Exit(1)
