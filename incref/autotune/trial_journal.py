"""Measurements of earlier runs of a search."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from incref.autotune.metric import Metric
from incref.autotune.trial import Measurement
from incref.checkpoints.journal import Journal
from incref.checkpoints.versions import versions
from incref.config.scheme import InputScheme, LayerScheme
from incref.qtensor.format_json import Json

__all__ = ["Schemes", "TrialJournal", "model_digest"]

Schemes = dict[str, LayerScheme | InputScheme]
"""What becomes of every layer, and every module without weights, that changes; nothing for the float model."""


class TrialJournal:
    """Keeps every measurement under the model, the metrics, what the layers became, and the versions of packages."""

    def __init__(self, directory: str | Path, model: nn.Module, metrics: tuple[Metric, ...]) -> None:
        """Open the journal of `model` and `metrics` in a directory."""
        self._journal = Journal(Path(directory))
        self._context: dict[str, Json] = {
            "model_sha256": model_digest(model),
            "metrics": [f"{metric.name}: {_qualified_name(metric)}" for metric in metrics],
            "versions": dict(versions()),
        }

    def find(self, schemes: Schemes) -> Measurement | None:
        """Look up what was measured; a trial that failed counts as not there, so that it is tried again."""
        known = self._journal.get(self._key(schemes))
        measured = None if known is None else Measurement.from_json(known)
        return None if measured is None or measured.failure else measured

    def keep(self, schemes: Schemes, measured: Measurement) -> None:
        """Keep what was measured; once this returns it outlives the process."""
        self._journal.put(self._key(schemes), measured.to_json())

    def _key(self, schemes: Schemes) -> dict[str, Json]:
        return {**self._context, "schemes_sha256": hashlib.sha256(repr(schemes).encode()).hexdigest()}


def model_digest(model: nn.Module) -> str:
    """SHA-256 of the structure of `model` and of all that a checkpoint of it holds, in hex."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _qualified_name(metric: Metric) -> str:
    function = metric.eval_fn
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
