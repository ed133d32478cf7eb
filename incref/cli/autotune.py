"""`incref autotune`: the smallest model whose perplexity is still good enough."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from incref.autotune.label import label
from incref.autotune.metric import Metric
from incref.autotune.result import TuningResult
from incref.autotune.sampler import SequentialSampler
from incref.autotune.sensitivity import SensitivitySampler
from incref.autotune.trial import Measurement, Trial
from incref.autotune.tune import tune
from incref.autotune.tuning_config import TuningConfig
from incref.checkpoints.files import atomic_directory
from incref.checkpoints.manifest import MANIFEST_FILE
from incref.cli.bars import bars
from incref.cli.evaluate import CalibrationWindows, TextFile, Window, Windows, calibration_of, tokens_of
from incref.cli.failures import reporting_failures
from incref.cli.options import AsJson, ConfigFile, ModelDirectory, Quiet, read_configs, require_scheme
from incref.config.resolve import QuantConfig, resolve
from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES
from incref.errors import IncrefError
from incref.evaluation.cache import cache_weights
from incref.evaluation.huggingface import copy_tokenizer, load_model
from incref.evaluation.perplexity import window_nll
from incref.modules.transformers_attention import expose_attention
from incref.qtensor.format_json import Json
from incref.workflow.layers import needs_calibration
from incref.workflow.save import save

__all__ = ["autotune"]

_PerLayer = Annotated[
    bool, typer.Option("--per-layer", help="Mix them layer by layer, by how sensitive each layer is.")
]
_All = Annotated[bool, typer.Option("--all", help="Try all, and take the smallest model that is good enough.")]


def autotune(  # noqa: PLR0917  # typer takes options by annotation
    directory: ModelDirectory,
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Where the best model is written; it must not be there yet.")
    ] = None,
    scheme: Annotated[
        list[str] | None, typer.Option(help="Name of a scheme to try; may be given several times.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How much the perplexity may rise, as a fraction of that in float32.")
    ] = 0.05,
    layerwise: _PerLayer = False,  # noqa: FBT002  # typer makes a flag of it
    max_trials: Annotated[int, typer.Option(min=1, help="How many are tried at most.")] = 100,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="After which no further trial begins.", show_default=False)
    ] = None,
    tries_all: _All = False,  # noqa: FBT002  # likewise
    text: TextFile = None,
    windows: Windows = 16,
    window: Window = 512,
    calibration_windows: CalibrationWindows = 32,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Where trials are kept, so that a search can go on."),
    ] = None,
    json_: AsJson = False,  # noqa: FBT002  # likewise
    quiet: Quiet = False,  # noqa: FBT002  # likewise
) -> None:
    """Quantize a model in several ways, and find one whose perplexity is good enough.

    The first that is ends the search; without one the best is taken. Output heads stay as they are.
    """
    if out is not None and out.exists():
        raise typer.BadParameter(f"the directory to make must not be there yet, and {out} is", param_hint="OUT")
    candidates: list[QuantConfig] = [SCHEMES[require_scheme(name)] for name in scheme or ()]
    candidates += read_configs(config) if config is not None else []
    if not candidates:
        raise typer.BadParameter("give schemes, or a file of configurations", param_hint="--scheme")
    if layerwise and scheme:
        raise typer.BadParameter("layers are given configurations of a file, not schemes", param_hint="--per-layer")
    kept = "" if journal is None else f"Trials so far are in {journal}; the same command goes on from there."
    with reporting_failures(on_interrupt=kept or "Nothing was written."):
        tune_config = TuningConfig(
            candidates,
            SensitivitySampler if layerwise else SequentialSampler,
            tolerance,
            max_trials,
            stops_when_met=not tries_all,
            time_budget=None if minutes is None else 60 * minutes,
            journal=journal,
        )
        model = load_model(directory)
        if any(isinstance(candidate, LayerScheme) and candidate.inputs is not None for candidate in candidates):
            expose_attention(model)
        tokens = tokens_of(directory, text, window=window, windows=windows)
        calibration = None
        if layerwise or any(_needs_text(model, candidate) for candidate in tune_config.configs()):
            calibration = calibration_of(directory, text, window=window, windows=calibration_windows, after=windows)
        with bars(quiet=quiet) as progress:
            task = progress.add_task("windows evaluated", total=None)
            metric = Metric(
                _perplexity(tokens, lambda: progress.advance(task)), name="perplexity", higher_is_better=False
            )
            result = tune(
                model, tune_config, metric, run_fn=None if calibration is None else _feed, run_args=(calibration,)
            )
            if out is not None:
                with atomic_directory(out, last=MANIFEST_FILE) as unfinished:
                    save(result.model, unfinished)
                    copy_tokenizer(directory, unfinished)
    typer.echo(json.dumps(_as_json(result), indent=2) if json_ else result.table())


def _needs_text(model: nn.Module, config: QuantConfig) -> bool:
    """Whether `config` calibrates a layer; one that does not fit the model is left to its trial."""
    try:
        return any(map(needs_calibration, resolve(model, config).values()))
    except (ValueError, IncrefError):
        return False


def _perplexity(tokens: Tensor, on_window: Callable[[], None]) -> Callable[[nn.Module], float]:
    def perplexity(model: nn.Module) -> float:
        cache_weights(model)
        return math.exp(window_nll(model, tokens, on_window=on_window).mean().item())

    return perplexity


@torch.no_grad()
def _feed(model: nn.Module, tokens: Tensor) -> None:
    for window in tokens:
        model(input_ids=window[None])


def _as_json(result: TuningResult) -> dict[str, Json]:
    trials: list[Json] = [_described(trial) for trial in result.trials]
    return {
        "is_met": result.is_met,
        "best": result.best.number,
        "tolerance": result.objective.tolerable_loss,
        "float32": _measured(result.baseline),
        "trials": trials,
    }


def _described(trial: Trial) -> dict[str, Json]:
    return {
        "number": trial.number,
        "configuration": label(trial.config),
        "is_met": trial.is_met,
        "failure": trial.failure or None,
        **(_measured(trial.measured) if not trial.failure else {}),
    }


def _measured(measured: Measurement) -> dict[str, Json]:
    assert measured.size is not None
    return {
        "perplexity": _only(measured.values),
        "bytes": measured.size.bytes,
        "bits_per_weight": measured.size.bits_per_weight,
        "quantize_seconds": measured.quantize_seconds,
        "eval_seconds": measured.eval_seconds,
    }


def _only(values: Sequence[float]) -> float:
    (value,) = values
    return value
