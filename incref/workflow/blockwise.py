"""Calibrates and replaces the layers of a model block by block, with what the quantized ones before give."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from incref.calibration.collect import HessianCollector, Transform
from incref.calibration.recorder import BlockCall, Call, CallRecorder, Chain, replay
from incref.config.method import GPTQ
from incref.modules.geometry import Geometry
from incref.modules.input import InputQuantizer
from incref.modules.patches import Patches
from incref.qtensor.qtensor import QTensor
from incref.workflow.hessian_step import quantize_step
from incref.workflow.layers import LayerReplacer, needs_hessian
from incref.workflow.processes import Processes

__all__ = ["replace_blockwise"]

_Run = Callable[[], object]


@torch.no_grad()
def replace_blockwise(
    model: nn.Module, recorder: CallRecorder, replacer: LayerReplacer, processes: Processes | None = None
) -> None:
    """Replace the layers of all blocks, and all others that need calibration.

    Where the recorded blocks are a chain, only the activations between two blocks are kept, and every block is run on
    its own: once for the statistics of its layers, and once, with those replaced, for what the next one gets. Layers
    outside of the blocks, and all layers of a model whose blocks are no chain, are calibrated at the end, by calls of
    the whole model.
    """
    processes = processes or Processes()
    is_chain = all(processes.gather(bool(recorder.chains)))
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    if recorder.chains and is_chain:
        _replace_chain(model, recorder.blocks, recorder.chains, replacer, processes)
    rest = [name for name, scheme in replacer.left.items() if needs_hessian(scheme)]
    _replace_together(rest, [_call_of(model, call) for call in recorder.calls], replacer, processes)
    for name, module in model.named_modules():
        module.training = modes.get(name, module.training)


def _call_of(model: nn.Module, call: Call) -> _Run:
    return lambda: model(*call.args, **call.kwargs)


def _replace_chain(
    model: nn.Module,
    blocks: Sequence[str],
    chains: Sequence[Chain],
    replacer: LayerReplacer,
    processes: Processes,
) -> None:
    hidden = [chain.hidden for chain in chains]
    for index, name in enumerate(blocks):
        block = model.get_submodule(name)
        calls = [chain.calls[index] for chain in chains]
        layers = [layer for layer in replacer.left if layer.startswith(f"{name}.")]
        with replacer.lend(name):
            runs = [_replay_of(block, state, call) for state, call in zip(hidden, calls, strict=True)]
            _replace_together(layers, runs, replacer, processes)
            del runs
            is_last = index == len(blocks) - 1
            if not is_last:
                for number, call in enumerate(calls):
                    hidden[number] = replay(block, hidden[number], call)


def _replay_of(block: nn.Module, hidden: Tensor, call: BlockCall) -> _Run:
    return lambda: replay(block, hidden, call)


def _replace_together(
    names: Sequence[str], runs: Sequence[_Run], replacer: LayerReplacer, processes: Processes
) -> None:
    """Calibrate and replace layers by some runs; in several steps where their method is truly sequential."""
    # What the first process knows: the journal may be on its disk alone.
    known = processes.gather({name: replacer.find(name) is not None for name in names})[0]
    calibrated = [name for name in names if needs_hessian(replacer.left[name])]
    steps = [list(calibrated)]
    if any(_is_sequential(name, replacer) for name in calibrated):
        order = processes.gather(_collect(names, runs[:1], replacer).fed_together)[0]
        seen = {name for step in order for name in step}
        steps = [*order, [name for name in names if name not in seen]]
    for step in steps:
        needing = [name for name in step if name in calibrated and not known[name]]
        found: dict[str, QTensor] = {}
        if needing:
            found = quantize_step(needing, _collect(needing, runs, replacer), replacer, processes)
        for name in step:
            if known[name]:
                own = replacer.find(name) if processes.rank == 0 else None
                found[name] = processes.share(own, 0, replacer.device(name))
            replacer.replace(name, found.pop(name, None))
    for name in names:
        if name in replacer.left:
            replacer.replace(name)


def _is_sequential(name: str, replacer: LayerReplacer) -> bool:
    method = replacer.left[name].method
    return isinstance(method, GPTQ) and method.true_sequential


def _collect(names: Sequence[str], runs: Sequence[_Run], replacer: LayerReplacer) -> HessianCollector:
    layers = {name: replacer.layer(name) for name in names}
    transforms: dict[str, Transform] = {}
    groups: dict[str, int] = {}
    for name, layer in layers.items():
        scheme = replacer.left[name]
        quantizer = InputQuantizer(elementwise=scheme.elementwise, activation=scheme.activation)
        if isinstance(layer, nn.Conv2d):
            kernel_size = (layer.kernel_size[0], layer.kernel_size[1])
            transforms[name] = Patches(geometry=Geometry.of(layer), kernel_size=kernel_size, quantizer=quantizer)
            groups[name] = layer.groups
        elif scheme.activation is not None or scheme.elementwise is not None:
            transforms[name] = quantizer
    collector = HessianCollector(layers, transforms, groups)
    try:
        for run in runs:
            run()
            collector.flush()
    finally:
        collector.detach()
    return collector
