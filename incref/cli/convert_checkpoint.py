"""`incref convert-checkpoint`: a quantized model in another layout."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from incref.checkpoints.files import atomic_directory
from incref.checkpoints.foreign import CheckpointLayout
from incref.checkpoints.manifest import MANIFEST_FILE
from incref.checkpoints.size import file_bytes, measure_size
from incref.cli.failures import reporting_failures
from incref.cli.layouts import MaxShardSize, ScaleDtype
from incref.cli.options import AsJson, ModelDirectory
from incref.errors import CheckpointError
from incref.evaluation.huggingface import copy_tokenizer
from incref.modules.layer import QuantLayer
from incref.workflow.load import load
from incref.workflow.load_huggingface import is_foreign
from incref.workflow.save import save

__all__ = ["convert_checkpoint"]

_OWN = "incref"
Target = Enum("Target", {layout: layout for layout in (_OWN, *(layout.value for layout in CheckpointLayout))})  # type: ignore[misc]  # typer takes an enum of all names


def convert_checkpoint(  # noqa: PLR0917  # typer takes options by annotation
    directory: ModelDirectory,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to make; it must not be there yet.")],
    to: Annotated[Target, typer.Option(help="The layout to write.")],
    scale_dtype: ScaleDtype = None,
    max_shard_size: MaxShardSize = None,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Write a quantized model in another layout, with its tokenizer: the same codes, and the same scales.

    What it is written in now is read from its files. The directory appears when everything is in it.
    """
    if out.exists():
        raise typer.BadParameter(f"the directory to make must not be there yet, and {out} is", param_hint="OUT")
    is_own = to.value == _OWN
    if is_own and scale_dtype is not None:
        raise typer.BadParameter("incref's own format keeps scales as they are", param_hint="--scale-dtype")
    with reporting_failures(on_interrupt="Nothing was written."):
        if not (directory / MANIFEST_FILE).is_file() and not is_foreign(directory):
            raise CheckpointError(f"{directory}: the model is not quantized; incref quantize does that")
        source = _OWN if (directory / MANIFEST_FILE).is_file() else "huggingface"
        model = load(directory, format="default" if source == _OWN else "huggingface")
        with atomic_directory(out, last="config.json") as unfinished:
            save(
                model,
                unfinished,
                "default" if is_own else "huggingface",
                layout=None if is_own else to.value,
                max_shard_size=max_shard_size,
                scale_dtype=None if scale_dtype is None else scale_dtype.value,
            )
            copy_tokenizer(directory, unfinished)
    size, before, after = measure_size(model), file_bytes(directory), file_bytes(out)
    layers = sum(isinstance(module, QuantLayer) for module in model.modules())
    if json_:
        found = {
            "directory": str(out),
            "layout": to.value,
            "layers": layers,
            "bits_per_weight": size.bits_per_weight,
            "file_bytes": after,
            "file_bytes_before": before,
        }
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(f"{out}: {to.value}, {layers} layers; {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")
