"""A model converted under a scheme, with text to calibrate it where the scheme needs that."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from incref.config.scheme import LayerScheme
from incref.errors import UnsupportedError
from incref.modules.transformers_attention import expose_attention
from incref.workflow.convert import convert
from incref.workflow.layers import Progress, needs_calibration
from incref.workflow.prepare import attach_plan, drop_plan, make_plan

__all__ = ["convert_with_text"]


def convert_with_text(
    model: nn.Module,
    scheme: LayerScheme,
    tokens: Tensor | None,
    *,
    inplace: bool,
    progress: Progress | None = None,
    on_window: Callable[[], None] | None = None,
    journal: Path | None = None,
    values_path: Path | None = None,
) -> nn.Module:
    """Quantize all linear layers of a causal language model but its output heads, and attention if the scheme says so.

    Args:
        model: called as those of Hugging Face: `model(input_ids=...)`.
        scheme: what layers become.
        tokens: windows of text, int64 [n, window], to calibrate with; looked at only if the scheme needs that.
        inplace: whether `model` itself is changed; if not, a copy is.
        progress: called after every layer that was converted.
        on_window: called after every window of text.
        journal: see `convert`.
        values_path: a directory of safetensors with the values that `model` lacks; they are read one block at a time.

    Raises:
        UnsupportedError: if the scheme needs text and there is none, or speaks of attention that can't be exposed.
    """
    if scheme.inputs is not None:
        if not inplace:
            # Attention that is exposed stays so.
            model, inplace = copy.deepcopy(model), True
        expose_attention(model)
    is_calibrated = needs_calibration(scheme)
    if not is_calibrated and values_path is None:
        return convert(model, scheme, inplace=inplace, progress=progress, journal=journal)
    if is_calibrated and (tokens is None or not len(tokens)):
        raise UnsupportedError("this scheme is calibrated with text; give at least one window")
    prepared = attach_plan(model, make_plan(model, scheme, values_path=values_path, record_only=True))
    try:
        with torch.no_grad():
            for window in tokens if tokens is not None and is_calibrated else ():
                prepared(input_ids=window[None])
                if on_window is not None:
                    on_window()
        return convert(prepared, inplace=inplace, progress=progress, journal=journal)
    finally:
        drop_plan(model)
