"""`save` as a method of a model."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from incref.checkpoints.foreign import CheckpointLayout

__all__ = ["give_save"]


class _Save:
    """`save` of one model, as its method. It holds the model weakly, so that one that nothing else holds is freed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)

    def __call__(
        self,
        checkpoint_dir: str | Path = "saved_results",
        format: str = "default",  # noqa: A002  # the name that callers know
        *,
        layout: CheckpointLayout | str | None = None,
        max_shard_size: int | str | None = None,
        scale_dtype: torch.dtype | str | None = None,
    ) -> None:
        """Write the model to a directory that `load` reads; the arguments are those of `save`."""
        from incref.workflow.save import save  # noqa: PLC0415  # formats of files, which few models are written to

        save(
            self._held(),
            checkpoint_dir,
            format,
            layout=layout,
            max_shard_size=max_shard_size,
            scale_dtype=scale_dtype,
        )

    def __reduce__(self) -> tuple[type, tuple[nn.Module]]:
        """Let a copy of the model have a method of its own."""
        return _Save, (self._held(),)

    def _held(self) -> nn.Module:
        model = self._model()
        if model is None:
            raise ReferenceError("nothing holds the model any more; keep it in a variable, or call incref.save")
        return model


def give_save(model: nn.Module) -> None:
    """Make `save` a method of `model`, unless it has one of that name."""
    if not hasattr(model, "save"):
        model.save = _Save(model)  # type: ignore[assignment]  # an ordinary attribute
