"""Arguments that several commands have."""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from incref.config.schemes import SCHEMES

__all__ = ["AsJson", "ModelDirectory", "Quiet", "require_scheme"]

ModelDirectory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="A local directory of a Hugging Face causal language model: config.json, safetensors and tokenizer.",
    ),
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
