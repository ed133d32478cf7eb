"""Calibrates and replaces the layers of a model block by block, with what the quantized ones before give."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from incref.calibration.collect import HessianCollector
from incref.calibration.recorder import BlockCall, Call, CallRecorder, Chain, replay
from incref.config.method import GPTQ
from incref.modules.layer import QuantLayer
from incref.modules.replace import disable_fast_paths
from incref.qtensor.qtensor import QTensor
from incref.workflow.hessian_step import quantize_step
from incref.workflow.layer_hessian import groups_of, input_transform
from incref.workflow.layers import LayerReplacer, needs_hessian
from incref.workflow.one_pass import OnePass, replace_in_one_pass
from incref.workflow.processes import Processes
from incref.workflow.runs import Runs

__all__ = ["replace_blockwise"]

_CALLS_PER_THREAD = 2
"""So many calls of a block a thread must have, of all processes, for calls to be made side by side."""


@torch.no_grad()
def replace_blockwise(
    model: nn.Module, recorder: CallRecorder, replacer: LayerReplacer, processes: Processes | None = None
) -> None:
    """Replace the layers of all blocks, and all others that need calibration.

    Where the recorded blocks are a chain, only the activations between two blocks are kept, and every block is run on
    its own: once for the statistics of its layers, and once, with those replaced, for what the next one gets. Where
    their method is truly sequential, both is one pass, if the blocks allow that. Layers outside of the blocks, and all
    layers of a model whose blocks are no chain, are calibrated at the end, by calls of the whole model.
    """
    processes = processes or Processes()
    is_chain = all(processes.gather(bool(recorder.chains)))
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    if recorder.chains and is_chain:
        _replace_chain(model, recorder, recorder.chains, replacer, processes)
    rest = [name for name, scheme in replacer.left.items() if needs_hessian(scheme)]
    runs = Runs(module=model, functions=[_call_of(call) for call in recorder.calls])
    _replace_together(rest, runs, replacer, processes)
    for name, module in model.named_modules():
        module.training = modes.get(name, module.training)


def _call_of(call: Call) -> Callable[[nn.Module], object]:
    return lambda model: model(*call.args, **call.kwargs)


def _replace_chain(
    model: nn.Module, recorder: CallRecorder, chains: Sequence[Chain], replacer: LayerReplacer, processes: Processes
) -> None:
    hidden = [chain.hidden for chain in chains]
    at_once, threads = _side_by_side(recorder, hidden, replacer, processes)
    in_one_pass, together = True, list[list[str]]()
    for index, name in enumerate(recorder.blocks):
        block = model.get_submodule(name)
        calls = [chain.calls[index] for chain in chains]
        layers = [layer for layer in replacer.left if layer.startswith(f"{name}.")]
        with replacer.lend(name):
            runs = Runs(
                module=block,
                functions=[_replay_of(hidden, number, call) for number, call in enumerate(calls)],
                layers=[layer.removeprefix(f"{name}.") for layer in layers],
                kinds=[state.shape for state in hidden],
                at_once=at_once,
                threads=threads,
            )
            found: OnePass | None = None
            if in_one_pass and any(_is_sequential(layer, replacer) for layer in layers):
                found = replace_in_one_pass(layers, runs, together, replacer, processes)
                # What one block does its like will do.
                in_one_pass = found is not None
            if found is None:
                _replace_together(layers, runs, replacer, processes)
            disable_fast_paths(block)
            if found is not None:
                hidden, together = found.outputs, found.together
            elif index < len(recorder.blocks) - 1:
                with _keeping_weights(block):
                    runs.all(hidden.__setitem__)
            del runs


def _side_by_side(
    recorder: CallRecorder, hidden: Sequence[Tensor], replacer: LayerReplacer, processes: Processes
) -> tuple[int, int | None]:
    """How many calls of a block are made at once, and with how many threads each; None for those of the caller.

    Threads are the same for all processes, as bits may depend on their number.
    """
    devices = {state.device.type for state in hidden} | {replacer.device(name).type for name in replacer.left}
    facts = processes.gather((len(hidden), recorder.draws, devices == {"cpu"}))
    threads = torch.get_num_threads()
    has_enough = sum(count for count, _, _ in facts) >= _CALLS_PER_THREAD * threads
    # What draws random numbers must do so in the order of calls.
    if threads == 1 or not has_enough or not all(is_on_cpu and not draws for _, draws, is_on_cpu in facts):
        return 1, None
    return threads, 1


@contextmanager
def _keeping_weights(block: nn.Module) -> Iterator[None]:
    with ExitStack() as stack:
        for layer in block.modules():
            if isinstance(layer, QuantLayer):
                stack.enter_context(layer.keeping_weight())
        yield


def _replay_of(hidden: Sequence[Tensor], number: int, call: BlockCall) -> Callable[[nn.Module], Tensor]:
    return lambda block: replay(block, hidden[number], call)


def _replace_together(names: Sequence[str], runs: Runs[object], replacer: LayerReplacer, processes: Processes) -> None:
    """Calibrate and replace layers by some runs; in several steps where their method is truly sequential."""
    # What the first process knows: the journal may be on its disk alone.
    known = processes.gather({name: replacer.find(name) is not None for name in names})[0]
    calibrated = [name for name in names if needs_hessian(replacer.left[name])]
    steps = [list(calibrated)]
    if any(_is_sequential(name, replacer) for name in calibrated):
        order = _merged(processes.gather(_order(names, runs, replacer)))
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


def _order(names: Sequence[str], runs: Runs[object], replacer: LayerReplacer) -> list[list[str]]:
    """What is fed together, in the order of the calls, of as many runs as it takes to see all layers."""
    order: list[list[str]] = []
    left = list(names)
    for number in range(len(runs.functions)):
        if not left:
            break
        found = _collect(left, runs.only(number), replacer).fed_together
        order += found
        left = [name for name in left if not any(name in step for step in found)]
    return order


def _merged(orders: Sequence[list[list[str]]]) -> list[list[str]]:
    """The steps of the first process, and what others see beside them."""
    merged: list[list[str]] = []
    for step in (step for order in orders for step in order):
        merged.append([name for name in step if not any(name in other for other in merged)])
    return [step for step in merged if step]


def _is_sequential(name: str, replacer: LayerReplacer) -> bool:
    method = replacer.left[name].method
    return isinstance(method, GPTQ) and method.true_sequential


def _collect(names: Sequence[str], runs: Runs[object], replacer: LayerReplacer) -> HessianCollector:
    layers = {name: replacer.layer(name) for name in names}
    found = {name: input_transform(layer, replacer.left[name]) for name, layer in layers.items()}
    transforms = {name: transform for name, transform in found.items() if transform is not None}
    groups = {name: groups_of(layer) for name, layer in layers.items()}
    collector = HessianCollector(layers, transforms, groups)
    try:
        runs.all(lambda *_: collector.flush())
    finally:
        collector.detach()
    return collector
