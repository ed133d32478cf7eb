"""`incref conform identify`: which options a black box implements."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from incref.cli.conform.options import ImplementationName, find_one, using_modules
from incref.cli.options import AsJson
from incref.conformance.identify import identify

__all__ = ["identify_"]


def identify_(
    implementation: ImplementationName,
    fmt: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help="The format that it quantizes to; of a product, that of its factors."),
    ],
    op: Annotated[str | None, typer.Option("--op", help="The operation, if it has several.")] = None,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Say which options of a contract a black box implements; of a product, its accumulator and order of scales.

    It is called with values and the name of the format alone. The exit code is 1 if no combination of options, or no
    accumulator that is known, explains all results; the nearest is named then.
    """
    with using_modules():
        candidates = find_one(implementation).candidates
        name = op or next(iter(candidates))
        if name not in candidates:
            raise typer.BadParameter(f"{implementation} has no {name!r}; it has {', '.join(candidates)}")
        found = identify(candidates[name], fmt)
    if json_:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        how = "implements" if found.mismatches == 0 else f"is nearest to ({found.mismatches} of {found.total} differ)"
        typer.echo(f"{implementation} {found.op} {found.fmt} {how}:")
        for option, value in found.options.items():
            others = found.undecided.get(option, ())
            typer.echo(f"  {option} = {value}" + (f"; {', '.join(others)} would give the same" if others else ""))
        if found.preset:
            typer.echo(f"  as {', '.join(found.preset)}")
        for one in found.differences:
            typer.echo(
                f"  not {one.option} = {one.other}: for {one.given} at {one.place} it gives {one.got}, "
                f"not {one.would_be}"
            )
        if found.first_unexplained:
            typer.echo(f"  not explained: {found.first_unexplained}")
    if found.mismatches:
        raise typer.Exit(1)
