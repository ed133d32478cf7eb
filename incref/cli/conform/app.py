"""`incref conform`: judge an implementation."""

import sys
from pathlib import Path

import typer

from incref.cli.conform.compare import compare
from incref.cli.conform.faults import faults
from incref.cli.conform.identify import identify_
from incref.cli.conform.listing import list_
from incref.cli.conform.probe_acc import probe_acc
from incref.cli.conform.replay import replay
from incref.cli.conform.run import run_
from incref.cli.conform.statement import app as statement

__all__ = ["app"]

app = typer.Typer(
    name="conform",
    help="Judge an implementation of the operations by the conformance suite.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def find_modules_here() -> None:
    """Let a module in the current directory be named, as `python -m` lets it; of a script its own is searched."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


app.command("list")(list_)
app.command("run")(run_)
app.command("replay")(replay)
app.command("identify")(identify_)
app.command("probe-acc")(probe_acc)
app.command("faults")(faults)
app.command("compare")(compare)
app.add_typer(statement)
