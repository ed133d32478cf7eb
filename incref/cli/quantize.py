"""`incref quantize`: a quantized copy of a model's directory."""

import json
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from incref.checkpoints.files import atomic_directory
from incref.checkpoints.foreign import CheckpointLayout
from incref.checkpoints.manifest import MANIFEST_FILE
from incref.checkpoints.size import file_bytes, measure_size
from incref.cli.bars import bars
from incref.cli.evaluate import CalibrationWindows, TextFile, Window, calibration_of
from incref.cli.failures import reporting_failures
from incref.cli.layouts import MaxShardSize, ScaleName
from incref.cli.options import AsJson, ModelDirectory, Quiet, require_scheme
from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES
from incref.config.weight_format import scale_dtype_of
from incref.evaluation.calibrate import convert_with_text
from incref.evaluation.huggingface import copy_tokenizer, load_empty, load_model
from incref.formats import BlockFormat
from incref.workflow.layers import needs_calibration
from incref.workflow.save import save

__all__ = ["quantize"]


LayerWise = Annotated[
    bool, typer.Option("--layer-wise", help="Read one block at a time, of a model that is larger than memory.")
]


class FormatName(Enum):
    """Formats of `save`."""

    DEFAULT = "default"
    HUGGINGFACE = "huggingface"


def _require(name: str) -> str:
    return require_scheme(name)


def _with_scales(scheme: LayerScheme, scale_dtype: ScaleName | None) -> LayerScheme:
    """The scheme with float scales rounded to `scale_dtype` before codes are chosen."""
    if scale_dtype in (None, ScaleName.FLOAT32) or isinstance(scheme.weight.fmt, BlockFormat):
        return scheme
    assert scale_dtype is not None
    return replace(scheme, weight=replace(scheme.weight, scale_dtype=scale_dtype_of(scale_dtype.value)))


def _layout(format_: FormatName | None, layout: CheckpointLayout | None) -> CheckpointLayout | None:
    """The layout that is asked for; None for incref's own format."""
    if format_ is FormatName.DEFAULT and layout is not None:
        raise typer.BadParameter("a layout is for --format huggingface", param_hint="--layout")
    if format_ is FormatName.HUGGINGFACE and layout is None:
        return CheckpointLayout.COMPRESSED_TENSORS
    return layout


def quantize(  # noqa: PLR0917  # typer takes options by annotation
    directory: ModelDirectory,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to make; it must not be there yet.")],
    scheme: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEMES)}.", callback=_require)],
    text: TextFile = None,
    window: Window = 512,
    calibration_windows: CalibrationWindows = 32,
    format_: Annotated[
        FormatName | None, typer.Option("--format", help="Who reads it: incref, or engines for Hugging Face models.")
    ] = None,
    layout: Annotated[
        CheckpointLayout | None,
        typer.Option(help="How --format huggingface stores weights; compressed-tensors if left out."),
    ] = None,
    scale_dtype: Annotated[
        ScaleName | None, typer.Option(help="What float scales are rounded to, before codes are chosen.")
    ] = None,
    max_shard_size: MaxShardSize = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="A directory that keeps layers, so that the command goes on after a stop."),
    ] = None,
    layer_wise: LayerWise = False,  # noqa: FBT002  # typer makes a flag of it
    json_: AsJson = False,  # noqa: FBT002  # likewise
    quiet: Quiet = False,  # noqa: FBT002  # likewise
) -> None:
    """Quantize a model and write it, with its tokenizer, to a new directory of safetensors.

    Schemes of GPTQ are calibrated with the end of a text. The directory appears when everything is in it. Output heads
    stay as they are.
    """
    if out.exists():
        raise typer.BadParameter(f"the directory to make must not be there yet, and {out} is", param_hint="OUT")
    layout = _layout(format_, layout)
    wanted = _with_scales(SCHEMES[scheme], scale_dtype)
    if layer_wise and (wanted.is_static or wanted.smoothing is not None or wanted.inputs is not None):
        raise typer.BadParameter(
            f"{scheme} measures what layers are fed, or changes attention, in a whole model; leave --layer-wise out",
            param_hint="--layer-wise",
        )
    kept = "Nothing was written." if journal is None else f"The same command goes on with the layers in {journal}."
    with reporting_failures(on_interrupt=kept):
        model = load_empty(directory) if layer_wise else load_model(directory)
        before = file_bytes(directory)
        with bars(quiet=quiet) as progress:
            calibrating = None
            if needs_calibration(wanted):
                calibrating = progress.add_task("calibrating", total=calibration_windows)
            task = progress.add_task("quantizing layers", total=None)

            def show(_name: str, done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            tokens = None
            if needs_calibration(wanted):
                tokens = calibration_of(directory, text, window=window, windows=calibration_windows)
            convert_with_text(
                model,
                wanted,
                tokens,
                inplace=True,
                progress=show,
                on_window=None if calibrating is None else lambda: progress.advance(calibrating),
                journal=journal,
                values_path=directory if layer_wise else None,
            )
            writing = progress.add_task("writing", total=1)
            with atomic_directory(out, last=MANIFEST_FILE) as unfinished:
                save(
                    model,
                    unfinished,
                    "default" if layout is None else "huggingface",
                    layout=layout,
                    max_shard_size=max_shard_size,
                )
                copy_tokenizer(directory, unfinished)
            progress.advance(writing)
    size, after = measure_size(model), file_bytes(out)
    if json_:
        found = {
            "directory": str(out),
            "scheme": scheme,
            "layout": None if layout is None else layout.value,
            "bits_per_weight": size.bits_per_weight,
            "bits_per_parameter": size.bits_per_parameter,
            "file_bytes": after,
            "file_bytes_before": before,
        }
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(
            f"{out}: {scheme}, {size.bits_per_weight:.3f} bits a quantized weight, "
            f"{size.bits_per_parameter:.2f} bits a parameter; {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now"
        )
