"""Options of the commands that write checkpoints."""

from enum import Enum
from typing import Annotated

import typer

from incref.checkpoints.shards import parse_size

__all__ = ["MaxShardSize", "ScaleDtype", "ScaleName"]


class ScaleName(Enum):
    """Dtypes of scales."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def _size(value: str | None) -> str | None:
    try:
        parse_size(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return value


MaxShardSize = Annotated[
    str | None,
    typer.Option(help="The most bytes of a file, such as 5GB; one file if left out.", callback=_size),
]
ScaleDtype = Annotated[
    ScaleName | None,
    typer.Option(help="What scales are rounded to. Left out, nothing is: what the layout can't hold is refused."),
]
