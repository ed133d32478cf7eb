"""`incref info`: what is installed, and which backends can run here."""

import json
import platform

import torch
import typer
from rich.table import Table

from incref.backends.discovery import available_backends
from incref.checkpoints.versions import versions
from incref.cli.console import stdout_console
from incref.cli.options import AsJson
from incref.qtensor.format_json import Json

__all__ = ["info"]


def info(
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Show versions, the machine and the backends."""
    backends = available_backends()
    if json_:
        found: dict[str, Json] = {
            "versions": dict(versions()),
            "machine": platform.machine(),
            "system": platform.system(),
            "threads": torch.get_num_threads(),
            "backends": dict(backends),
        }
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(show_header=False)
    for name, installed in versions().items():
        table.add_row(name, installed or "not installed")
    table.add_row("machine", f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads")
    table.add_section()
    for name, reason in backends.items():
        table.add_row(f"backend {name}", "available" if reason is None else f"not available: {reason}")
    stdout_console().print(table)
