"""`incref info`: what is installed, and which backends can run here."""

import json
import platform

import torch
import typer
from rich.table import Table

from incref.backends.discovery import available_backends, find_backend
from incref.checkpoints.versions import versions
from incref.cli.console import stdout_console
from incref.cli.options import AsJson
from incref.ops.table import OPS
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
            "operations": {name: _operations(name) for name, reason in backends.items() if reason is None},
        }
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(show_header=False)
    for name, installed in versions().items():
        table.add_row(name, installed or "not installed")
    table.add_row("machine", f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads")
    table.add_section()
    for name, reason in backends.items():
        offer = f"available: {', '.join(map(str, _operations(name)))}" if reason is None else f"not available: {reason}"
        table.add_row(f"backend {name}", offer)
    stdout_console().print(table)


def _operations(name: str) -> list[Json]:
    return list(OPS if name == "reference" else find_backend(name).kernels)
