"""What surrounds kernels on a Gaudi: cuts between graphs, and the environment of inference."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType

import torch
from torch import nn

from incref_kernels.hpu.available import mode
from incref_kernels.hpu.simulator.options import Mode
from incref_kernels.hpu.simulator.simulate import Simulation, active

__all__ = ["compile_model", "inference", "mark_step", "settle"]


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


class _Environment:
    """The environment of inference on a Gaudi, which is there while a model needs it."""

    models = 0

    @classmethod
    def enter(cls, model: nn.Module, *, only_scales_are_constant: bool) -> None:
        """Set it up if it is not there, and mark the constants of `model`."""
        core = _core()
        if not cls.models:
            core.hpu_set_inference_env()
        cls.models += 1
        try:
            core.hpu_inference_initialize(model, mark_only_scales_as_const=only_scales_are_constant)
        except BaseException:
            cls.leave()
            raise

    @classmethod
    def leave(cls) -> None:
        """Tear it down after the last model."""
        cls.models -= 1
        if not cls.models:
            _core().hpu_teardown_inference_env()


def _enter(model: nn.Module, *, only_scales_are_constant: bool) -> Callable[[], None]:
    """Set up the environment for `model`, and give what ends that. A simulation counts only."""
    simulation = active()
    if simulation is None:
        _Environment.enter(model, only_scales_are_constant=only_scales_are_constant)
        return _Environment.leave
    simulation.models += 1
    return partial(_leave_simulation, simulation)


def _leave_simulation(simulation: Simulation) -> None:
    simulation.models -= 1


@contextmanager
def inference(model: nn.Module, *, only_scales_are_constant: bool = False) -> Iterator[nn.Module]:
    """Set up the environment of inference for `model`, and tear it down if no other model needs it.

    Scales that are aligned to the hardware are fused with products, and results of the matrix unit are clipped, in this
    environment alone. In a simulation there is nothing to set up. Models that `convert` and `load` put on the device
    have it as long as they live.

    Args:
        model: on the device already.
        only_scales_are_constant: whether only scales are marked as constants, and not all parameters.
    """
    leave = _enter(model, only_scales_are_constant=only_scales_are_constant)
    try:
        yield model
    finally:
        leave()


def settle(model: nn.Module) -> None:
    """Set up the environment of inference for as long as `model` lives; its parameters are constants from now on."""
    end = weakref.finalize(model, _enter(model, only_scales_are_constant=False))
    # The process that ends takes the environment along, and the software may be gone by then.
    end.atexit = False


def compile_model(model: nn.Module) -> nn.Module:
    """Compile for the mode without lazy graphs; in the lazy mode the model is given back as it is."""
    if mode() is Mode.LAZY:
        return model
    backend = "hpu_backend" if active() is None else "aot_eager"
    compiled: nn.Module = torch.compile(model, backend=backend)  # type: ignore[assignment]  # a module, if given one
    return compiled
