"""`incref conform statement`: a hashed statement of a result, made and verified."""

import json
from pathlib import Path
from typing import Annotated

import typer

from incref.cli.conform.options import using_modules
from incref.conformance.statement import make_statement, verify_statement

__all__ = ["app"]

app = typer.Typer(name="statement", help="State what a run found, with hashes.", no_args_is_help=True)

_Result = Annotated[Path, typer.Argument(metavar="RESULT", exists=True, dir_okay=False, help="JSON of a run.")]
_Files = Annotated[
    list[Path] | None,
    typer.Option("--file", exists=True, dir_okay=False, help="A source or binary of the implementation; repeatable."),
]


@app.command("make")
def make(
    result: _Result,
    out: Annotated[Path, typer.Argument(metavar="STATEMENT", help="The file to write.")],
    file: _Files = None,
) -> None:
    """Write a statement of a result."""
    with using_modules():
        found = make_statement(result, tuple(file or ()))
        out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    typer.echo(f"{out}: {found['says']}; sha256 {found['sha256']}")


@app.command("verify")
def verify(
    statement: Annotated[Path, typer.Argument(metavar="STATEMENT", exists=True, dir_okay=False, help="The statement.")],
    result: _Result,
    file: _Files = None,
) -> None:
    """Recompute what a statement says; the exit code is 1 if something does not agree."""
    with using_modules():
        wrong = verify_statement(json.loads(statement.read_text()), result, tuple(file or ()))
    for one in wrong:
        typer.echo(f"error: {one}", err=True)
    if wrong:
        raise typer.Exit(1)
    typer.echo("the statement agrees with the result, the files and the suite that is installed")
