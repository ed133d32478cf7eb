"""How far a captured graph is on its way to a quantized one, noted on the graph itself."""

from enum import Enum

from torch import fx, nn

__all__ = ["Stage", "set_stage", "stage_of"]

_MARK = "incref_stage"


class Stage(Enum):
    """How far a captured graph is."""

    EXPORTED = "exported"
    """It is the model's."""
    PREPARED = "prepared"
    """It has observers."""
    CONVERTED = "converted"
    """It is quantized."""


def stage_of(model: nn.Module) -> Stage | None:
    """How far `model` is; None if `export` did not make it."""
    return model.meta.get(_MARK) if isinstance(model, fx.GraphModule) else None


def set_stage(model: fx.GraphModule, stage: Stage) -> None:
    """Note how far `model` is, so that copies know it too."""
    model.meta[_MARK] = stage
