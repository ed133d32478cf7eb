"""Arguments that several commands have."""

import difflib
import json
from pathlib import Path
from typing import Annotated

import typer

from incref.config.resolve import QuantConfig
from incref.config.schemes import SCHEMES
from incref.config.table import config_from_dict

__all__ = [
    "AsJson",
    "BackendName",
    "ConfigFile",
    "Fallback",
    "ModelDirectory",
    "Quiet",
    "read_configs",
    "require_scheme",
]

ModelDirectory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="A local directory of a Hugging Face causal language model: config.json, safetensors and tokenizer.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A configuration as `to_json_file` writes it, or a list of them.",
    ),
]
BackendName = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What multiplies in quantized layers: reference, auto, or one that incref info lists.",
        show_default="reference",
    ),
]
Fallback = Annotated[
    bool, typer.Option("--fallback", help="Let the reference compute what the named backend can't; else an error.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def require_scheme(name: str, others: tuple[str, ...] = ()) -> str:
    """Check that `name` is a row of `SCHEMES` or one of `others`.

    Raises:
        typer.BadParameter: if it is not; the message lists the nearest names.
    """
    known = [*SCHEMES, *others]
    if name in known:
        return name
    near = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    raise typer.BadParameter(
        f"no scheme is called {name!r}; "
        + (f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(known)}")
    )


def read_configs(path: Path) -> list[QuantConfig]:
    """Read a configuration or a list of them, as JSON.

    Raises:
        typer.BadParameter: if the file holds something else.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        return [config_from_dict(one) for one in (described if isinstance(described, list) else [described])]
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{path} holds no configuration: {error}", param_hint="--config") from error
