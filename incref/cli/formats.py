"""`incref formats`: the table of number formats."""

import json
from typing import Annotated

import typer
from rich.table import Table

from incref.cli.console import stdout_console
from incref.cli.failures import reporting_failures
from incref.cli.options import AsJson
from incref.formats import FORMATS, BlockFormat, FloatFormat, Format, get_format, short_names
from incref.qtensor.format_json import Json

__all__ = ["formats"]


def formats(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Formats to list; all if left out.")
    ] = None,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """List the number formats and their limits."""
    with reporting_failures():
        rows = [_find(name) for name in names] if names else list(FORMATS.values())
    if json_:
        typer.echo(json.dumps([_described(fmt) for fmt in rows], indent=2))
        return
    table = Table()
    for column in ("format", "bits", "layout", "largest", "smallest > 0", "source"):
        table.add_column(column, justify="right" if column in {"bits", "largest", "smallest > 0"} else "left")
    for fmt in rows:
        element = fmt.element if isinstance(fmt, BlockFormat) else fmt
        table.add_row(
            fmt.name,
            f"{_bits(fmt):g}",
            _layout(fmt),
            f"{element.qmax:.9g}",
            f"{element.smallest_positive:.9g}",
            fmt.source,
        )
    stdout_console().print(table)


def _find(name: str) -> Format:
    try:
        return get_format(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _bits(fmt: Format) -> float:
    return fmt.bits_per_element if isinstance(fmt, BlockFormat) else fmt.bits


def _layout(fmt: Format) -> str:
    if isinstance(fmt, BlockFormat):
        return f"{fmt.block_size} x {fmt.element.name}, scale {fmt.scale.name}"
    if isinstance(fmt, FloatFormat):
        sign = "" if fmt.is_signed else "unsigned "
        return f"{sign}e{fmt.exponent_bits}m{fmt.mantissa_bits}, bias {fmt.bias}, {fmt.specials.value}"
    return f"{fmt.num_codes} values"


def _described(fmt: Format) -> dict[str, Json]:
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return {
        "name": fmt.name,
        "also": list(short_names(fmt)),
        "bits": _bits(fmt),
        "layout": _layout(fmt),
        "qmax": element.qmax,
        "qmin": element.qmin,
        "smallest_positive": element.smallest_positive,
        "is_experimental": fmt.is_experimental,
        "source": fmt.source,
    }
