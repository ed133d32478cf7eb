"""A comparison as a table for people and as JSON for programs."""

import hashlib
import math
from collections.abc import Sequence

from rich.table import Table
from torch import Tensor

from incref.checkpoints.versions import versions
from incref.evaluation.result import Evaluation, Loss, loss_against
from incref.qtensor.format_json import Json

__all__ = ["as_json", "as_table", "column_notes"]

_MEGABYTE = 1e6


def as_table(evaluations: Sequence[Evaluation]) -> Table:
    """Make the table; the first evaluation is the one that the others are compared with."""
    baseline = evaluations[0]
    count, window = len(baseline.nll), "windows" if len(baseline.nll) > 1 else "window"
    table = Table(title=f"Perplexity over {count} {window} of text", caption=column_notes(), caption_justify="left")
    table.add_column("scheme")
    for name in ("bits/weight", "bits/param", "MB on disk", "perplexity", "ratio", "loss, nats/token", "seconds"):
        table.add_column(name, justify="right")
    for evaluation in evaluations:
        loss = loss_against(baseline, evaluation)
        table.add_row(
            evaluation.scheme,
            f"{evaluation.size.bits_per_weight:.3f}",
            f"{evaluation.size.bits_per_parameter:.2f}",
            f"{evaluation.file_bytes / _MEGABYTE:.1f}",
            f"{evaluation.perplexity:.3f}",
            *(("", "") if evaluation is baseline else (f"{loss.ratio:.4f}", _with_error(loss))),
            f"{evaluation.quantize_seconds + evaluation.eval_seconds:.1f}",
        )
    return table


def column_notes() -> str:
    """Say what the columns mean."""
    return (
        "bits/weight: of the layers that are quantized, scales and zero points included. "
        "bits/param: of the whole model. MB on disk: of the safetensors files, 1 MB = 10^6 bytes. "
        "loss: rise of the mean negative log-likelihood against the first row, ± its standard error over the windows, "
        "if there is more than one."
    )


def _with_error(loss: Loss) -> str:
    error = "" if math.isnan(loss.standard_error) else f" ± {loss.standard_error:.4f}"
    return f"{loss.delta_nll:+.4f}{error}"


def as_json(evaluations: Sequence[Evaluation], *, model: str, text: str, tokens: Tensor) -> dict[str, Json]:
    """Make a JSON value of everything that a comparison found and of what it was made with.

    Args:
        evaluations: the first is the one that the others are compared with.
        model: where the model is.
        text: where the text is from.
        tokens: int64 [n, window].
    """
    return {
        "model": model,
        "text": text,
        "tokens_sha256": hashlib.sha256(tokens.numpy().tobytes()).hexdigest(),
        "windows": tokens.shape[0],
        "window": tokens.shape[1],
        "versions": dict(versions()),
        "rows": [_row(evaluations[0], evaluation) for evaluation in evaluations],
    }


def _row(baseline: Evaluation, evaluation: Evaluation) -> dict[str, Json]:
    loss = loss_against(baseline, evaluation)
    return {
        "scheme": evaluation.scheme,
        "bits_per_weight": evaluation.size.bits_per_weight,
        "bits_per_parameter": evaluation.size.bits_per_parameter,
        "file_bytes": evaluation.file_bytes,
        "perplexity": _finite(evaluation.perplexity),
        "perplexity_ratio": _finite(loss.ratio),
        "delta_nll": _finite(loss.delta_nll),
        "delta_nll_standard_error": _finite(loss.standard_error),
        "nll": [_finite(nll) for nll in evaluation.nll],
        "quantize_seconds": evaluation.quantize_seconds,
        "eval_seconds": evaluation.eval_seconds,
    }


def _finite(number: float) -> float | None:
    # JSON has neither NaN nor Inf.
    return number if math.isfinite(number) else None
