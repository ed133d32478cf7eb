"""A model under several schemes: each evaluated once, and kept."""

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from incref.checkpoints.journal import Journal
from incref.checkpoints.size import file_bytes, measure_size
from incref.checkpoints.versions import versions
from incref.config.schemes import SCHEMES
from incref.evaluation.cache import cache_weights
from incref.evaluation.calibrate import convert_with_text
from incref.evaluation.huggingface import fingerprint, load_model
from incref.evaluation.perplexity import window_nll
from incref.evaluation.result import FLOAT32, Evaluation
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.qtensor.format_json import Json
from incref.workflow.bind import bind
from incref.workflow.layers import needs_calibration
from incref.workflow.save import save

__all__ = ["Watch", "compare"]


class Watch(Protocol):
    """What is told how far a comparison is."""

    def scheme(self, name: str, *, is_known: bool) -> None:
        """`name` is next; `is_known` says that its result is in the journal."""
        ...

    def layer(self, name: str, done: int, total: int) -> None:
        """The layer `name` is quantized, the `done`th of `total`."""
        ...

    def window(self) -> None:
        """One window more is done."""
        ...


def compare(
    directory: Path,
    schemes: Sequence[str],
    tokens: Tensor,
    *,
    journal: Journal,
    watch: Watch,
    calibration: Tensor | None = None,
    binding: Binding = REFERENCE_ONLY,
) -> Iterator[Evaluation]:
    """Evaluate a model as it is and under each of `schemes`, and yield every result as soon as it is kept.

    Args:
        directory: of a Hugging Face causal language model.
        schemes: names of rows of `SCHEMES`, or `FLOAT32`.
        tokens: windows of text, int64 [n, window].
        journal: has the results of earlier runs; a result counts if model, scheme, tokens and versions are the same.
        watch: is told about progress.
        calibration: windows of text for the schemes that are calibrated, int64 [n, window].
        binding: which backends compute in quantized layers.

    Yields:
        One evaluation for each scheme, in their order.

    Raises:
        CheckpointError: if the model can't be loaded.
        LayerError: if a layer can't be quantized.
        UnsupportedError: if the named backend can't compute a layer.
    """
    model_hash = fingerprint(directory)
    float_model: nn.Module | None = None
    for name in schemes:
        key = _key(model_hash, name, tokens, calibration, binding)
        known = journal.get(key)
        watch.scheme(name, is_known=known is not None)
        if known is None:
            if float_model is None:
                float_model = load_model(directory)
            evaluation = _evaluate(float_model, name, tokens, directory, watch, calibration, binding)
            journal.put(key, evaluation.to_json())
        else:
            evaluation = Evaluation.from_json(known)
        yield evaluation


def _evaluate(  # noqa: PLR0917  # the evaluation is all of them
    float_model: nn.Module,
    name: str,
    tokens: Tensor,
    directory: Path,
    watch: Watch,
    calibration: Tensor | None,
    binding: Binding,
) -> Evaluation:
    start = time.perf_counter()
    model = float_model
    if name != FLOAT32:
        model = convert_with_text(float_model, SCHEMES[name], calibration, inplace=False, progress=watch.layer)
        bind(model, binding)
    quantized = time.perf_counter()
    size, on_disk = measure_size(model), file_bytes(directory)
    if name != FLOAT32:
        with tempfile.TemporaryDirectory() as scratch:
            save(model, Path(scratch))
            on_disk = file_bytes(Path(scratch))
    cache_weights(model)
    before = time.perf_counter()
    nll = window_nll(model, tokens, on_window=watch.window)
    return Evaluation(
        scheme=name,
        nll=tuple(nll.tolist()),
        size=size,
        file_bytes=on_disk,
        quantize_seconds=quantized - start,
        eval_seconds=time.perf_counter() - before,
    )


def _key(model_hash: str, name: str, tokens: Tensor, calibration: Tensor | None, binding: Binding) -> dict[str, Json]:
    described: dict[str, Json] = {}
    if name != FLOAT32:
        scheme = SCHEMES[name]
        described = {"scheme": repr(scheme)}
        if needs_calibration(scheme) and calibration is not None:
            described["calibration_sha256"] = _digest(calibration)
        if binding != REFERENCE_ONLY:
            described["backend"] = repr(binding)
    return {
        "model_sha256": model_hash,
        "scheme": name,
        "spec": described,
        "tokens_sha256": _digest(tokens),
        "shape": list(tokens.shape),
        "versions": dict(versions()),
    }


def _digest(tokens: Tensor) -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
