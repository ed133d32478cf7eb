"""The commands of `incref`, one file each."""

import typer

from incref.cli.autotune import autotune
from incref.cli.conform.app import app as conform
from incref.cli.convert_checkpoint import convert_checkpoint
from incref.cli.evaluate import evaluate
from incref.cli.formats import formats
from incref.cli.generate import generate
from incref.cli.info import info
from incref.cli.inspect import inspect
from incref.cli.plan import plan
from incref.cli.quantize import quantize

__all__ = ["app"]

app = typer.Typer(
    name="incref",
    help="Low-precision formats, bit for bit: quantize language models, and see what that costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("eval")(evaluate)
app.command("plan")(plan)
app.command("quantize")(quantize)
app.command("autotune")(autotune)
app.command("convert-checkpoint")(convert_checkpoint)
app.command("generate")(generate)
app.command("formats")(formats)
app.command("inspect")(inspect)
app.command("info")(info)
app.add_typer(conform)
