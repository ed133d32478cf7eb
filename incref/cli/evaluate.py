"""`incref eval`: perplexity and size of a model under several schemes."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from torch import Tensor

from incref.checkpoints.journal import Journal
from incref.cli.bars import bars
from incref.cli.console import stdout_console
from incref.cli.failures import reporting_failures
from incref.cli.options import AsJson, BackendName, Fallback, ModelDirectory, Quiet, require_scheme
from incref.cli.report import as_json, as_table
from incref.config.schemes import SCHEMES
from incref.evaluation.compare import compare
from incref.evaluation.huggingface import load_tokenizer
from incref.evaluation.result import FLOAT32, Evaluation
from incref.evaluation.text import cut_windows, python_topics, read_text
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.workflow.bind import resolve_binding
from incref.workflow.layers import needs_calibration

__all__ = [
    "CalibrationWindows",
    "TextFile",
    "Window",
    "Windows",
    "calibration_of",
    "compare_with_bars",
    "evaluate",
    "tokens_of",
]

TextFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="UTF-8 text; Python's own help texts if left out."),
]
Windows = Annotated[int, typer.Option(min=1, help="How many windows of the text to take.")]
CalibrationWindows = Annotated[
    int,
    typer.Option(min=1, help="How many windows, from the end of the text, to calibrate with where a scheme needs it."),
]
Window = Annotated[int, typer.Option(min=2, help="Tokens in a window.")]


def evaluate(  # noqa: PLR0917  # typer takes options by annotation
    directory: ModelDirectory,
    scheme: Annotated[
        list[str] | None,
        typer.Option(help="Name of a scheme; may be given several times. All of them if left out.", show_default=False),
    ] = None,
    text: TextFile = None,
    windows: Windows = 16,
    window: Window = 512,
    calibration_windows: CalibrationWindows = 32,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Where results are kept; the user's cache if left out."),
    ] = None,
    backend: BackendName = None,
    fallback: Fallback = False,  # noqa: FBT002  # typer makes a flag of it
    json_: AsJson = False,  # noqa: FBT002  # likewise
    quiet: Quiet = False,  # noqa: FBT002  # likewise
) -> None:
    """Compare the perplexity and size of a model in float32 and under schemes.

    Every result is kept as soon as it is there; the same command takes up where an interrupted one stopped.
    """
    names = [require_scheme(name, (FLOAT32,)) for name in scheme or SCHEMES]
    kept = Journal(journal or _default_journal())
    with reporting_failures(
        on_interrupt=f"Results so far are in {kept.directory}; the same command goes on from there."
    ):
        tokens = tokens_of(directory, text, window=window, windows=windows)
        calibration = None
        if any(name != FLOAT32 and needs_calibration(SCHEMES[name]) for name in names):
            calibration = calibration_of(directory, text, window=window, windows=calibration_windows, after=windows)
        done = compare_with_bars(
            directory,
            names,
            tokens,
            journal=kept,
            quiet=quiet,
            calibration=calibration,
            binding=resolve_binding(backend, "reference" if fallback else None, None)[0],
        )
    if json_:
        source = str(text) if text else "pydoc_data.topics"
        typer.echo(json.dumps(as_json(done, model=str(directory), text=source, tokens=tokens), indent=2))
    else:
        stdout_console().print(as_table(done))


def tokens_of(directory: Path, text: Path | None, *, window: int, windows: int) -> Tensor:
    """Cut the text into windows of tokens, int64 [n, window].

    Raises:
        typer.BadParameter: if the text is too short or not UTF-8.
    """
    tokenizer = load_tokenizer(directory)
    try:
        return cut_windows(read_text(text) if text else python_topics(), tokenizer, window=window, count=windows)
    except (ModuleNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--text") from error


def calibration_of(directory: Path, text: Path | None, *, window: int, windows: int, after: int = 0) -> Tensor:
    """Cut the end of the text into windows of tokens, int64 [windows, window], none of them among the first `after`.

    Raises:
        typer.BadParameter: if the text is too short or not UTF-8.
    """
    tokens = tokens_of(directory, text, window=window, windows=sys.maxsize)
    if len(tokens) < after + windows:
        raise typer.BadParameter(
            f"the text has {len(tokens)} windows of {window} tokens, and {after} + {windows} are needed; "
            "take fewer, or a longer text",
            param_hint="--calibration-windows",
        )
    return tokens[-windows:]


def compare_with_bars(
    directory: Path,
    names: Sequence[str],
    tokens: Tensor,
    *,
    journal: Journal,
    quiet: bool,
    calibration: Tensor | None = None,
    binding: Binding = REFERENCE_ONLY,
) -> list[Evaluation]:
    """Evaluate the float32 model, then each scheme of `names` once, with bars on stderr unless `quiet`."""
    ordered = [FLOAT32, *(name for name in dict.fromkeys(names) if name != FLOAT32)]
    with bars(quiet=quiet) as progress:
        watch = _BarWatch(progress, windows=len(tokens), schemes=len(ordered))
        return list(
            compare(directory, ordered, tokens, journal=journal, watch=watch, calibration=calibration, binding=binding)
        )


def _default_journal() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "incref" / "eval"


class _BarWatch:
    """Shows a comparison as two bars: all windows, and the layers of the model being quantized."""

    def __init__(self, progress: Progress, *, windows: int, schemes: int) -> None:
        self._progress = progress
        self._windows = windows
        self._all = progress.add_task("reading the model", total=windows * schemes)
        self._layers = progress.add_task("layers", total=None, visible=False)

    def scheme(self, name: str, *, is_known: bool) -> None:
        """Show the name of the scheme; what is known is done."""
        self._progress.update(self._all, description=name, advance=self._windows if is_known else 0)

    def layer(self, name: str, done: int, total: int) -> None:
        """Show the layer's number."""
        self._progress.update(
            self._layers, description=f"quantizing {name}", completed=done, total=total, visible=done < total
        )

    def window(self) -> None:
        """Advance by one."""
        self._progress.advance(self._all)
