"""`quantize`: prepare, calibrate and convert in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from incref.config.resolve import QuantConfig
from incref.workflow.arguments import Arguments, as_arguments
from incref.workflow.convert import convert
from incref.workflow.layers import Progress
from incref.workflow.prepare import ExampleInputs, prepare

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["quantize"]


def quantize(  # noqa: PLR0917  # likewise
    model: nn.Module,
    quant_config: QuantConfig,
    run_fn: Callable[..., object] | None = None,
    run_args: Arguments = None,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
    example_inputs: ExampleInputs = None,
    *,
    progress: Progress | None = None,
    journal: str | Path | None = None,
    group: ProcessGroup | None = None,
    backend: str | None = None,
    fallback: str | None = None,
    device: str | torch.device | None = None,
    record_only: bool = False,
) -> nn.Module:
    """Quantize `model`.

    Args:
        model: any model.
        quant_config: a configuration, one as a dict, or a scheme for all linear layers but output heads.
        run_fn: called once with the prepared model and `run_args`, to calibrate it.
        run_args: further arguments of `run_fn`: a tuple or list of them, or a single one.
        inplace: whether `model` itself is changed; if not, a copy is.
        example_inputs: arguments of one call of the model, for algorithms that trace it.
        progress: called after every layer that was converted.
        journal: see `convert`.
        group: likewise.
        backend: likewise.
        fallback: likewise.
        device: likewise.
        record_only: see `prepare`; for a `run_fn` that looks at nothing that the model gives.

    Returns:
        The quantized model.

    Raises:
        ValueError: if a rule of the configuration matches no layer.
        LayerError: if a layer can't become what the configuration says; the message names it.

    >>> import torch
    >>> from incref.config.schemes import SCHEMES
    >>> quantize(nn.Sequential(nn.Linear(64, 8)), SCHEMES["mxfp4"])
    Sequential(
      (0): QuantLinear(in_features=64, out_features=8, bias=True, weight=mxfp4 (4.25 bits))
    )
    """
    prepared = prepare(model, quant_config, inplace=inplace, example_inputs=example_inputs, record_only=record_only)
    if run_fn is not None:
        run_fn(prepared, *as_arguments(run_args))
    return convert(
        prepared, progress=progress, journal=journal, group=group, backend=backend, fallback=fallback, device=device
    )
