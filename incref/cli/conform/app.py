"""`incref conform`: judge an implementation."""

import typer

from incref.cli.conform.listing import list_
from incref.cli.conform.run import run_

__all__ = ["app"]

app = typer.Typer(
    name="conform",
    help="Judge an implementation of the operations by the conformance suite.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
app.command("run")(run_)
