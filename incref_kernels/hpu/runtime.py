"""What surrounds kernels on a Gaudi: cuts between graphs, and the environment of inference."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch
from torch import nn

from incref_kernels.hpu.available import mode
from incref_kernels.hpu.simulator.options import Mode
from incref_kernels.hpu.simulator.simulate import active

__all__ = ["compile_model", "inference", "mark_step"]


def _core() -> ModuleType:
    return import_module("habana_frameworks.torch.core")


def mark_step() -> None:
    """Cut the graph of the lazy mode, so that a cast to 8 bits and the one back are not fused away; else do nothing.

    Source: Neural Compressor 9b47d09, quant_dequant.py: "needed so fuser won't remove 2 consecutive casts".
    """
    if mode() is not Mode.LAZY:
        return
    simulation = active()
    if simulation is None:
        _core().mark_step()
    else:
        simulation.steps += 1


@contextmanager
def inference(model: nn.Module, *, only_scales_are_constant: bool = False) -> Iterator[nn.Module]:
    """Set up the environment of inference for `model`, and tear it down.

    Scales that are aligned to the hardware are fused with products, and results of the matrix unit are clipped, in this
    environment alone. In a simulation there is nothing to set up.

    Args:
        model: on the device already.
        only_scales_are_constant: whether only scales are marked as constants, and not all parameters.
    """
    if active() is not None:
        yield model
        return
    core = _core()
    core.hpu_set_inference_env()
    try:
        core.hpu_inference_initialize(model, mark_only_scales_as_const=only_scales_are_constant)
        yield model
    finally:
        core.hpu_teardown_inference_env()


def compile_model(model: nn.Module) -> nn.Module:
    """Compile for the mode without lazy graphs; in the lazy mode the model is given back as it is."""
    if mode() is Mode.LAZY:
        return model
    backend = "hpu_backend" if active() is None else "aot_eager"
    compiled: nn.Module = torch.compile(model, backend=backend)  # type: ignore[assignment]  # a module, if given one
    return compiled
