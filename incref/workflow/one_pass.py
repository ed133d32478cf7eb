"""Calibrates and quantizes the layers of a block, one after the other, in a single pass of its calls.

All calls of the block are suspended where they reach a layer that is to be quantized, once what they bring there is
counted in its Hessian. When all of them wait, one layer is quantized, and they go on with the quantized one. So nothing
is computed twice, every layer is calibrated by what the quantized ones before it give, and what the calls return is
what the next block gets.

Layers that all calls fed the same tensor in the block before, as those of attention, are quantized together, and calls
go past all but the first of them.

That needs a block whose calls reach a layer once, keep nothing in the modules of the block that other calls change,
and read no weight but by calling its layer. None of this is assumed: where it turns out otherwise nothing has been
replaced yet, and the block has to be done step by step.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, local

import torch
from torch import Tensor, nn

from incref.calibration.collect import Transform
from incref.calibration.hessian import Hessian
from incref.calibration.patched import patched
from incref.calibration.seen import SeenTensor
from incref.calibration.suspendable import SuspendableCall, go_on_in_rows
from incref.config.rules import Layer
from incref.modules.layer import QuantLayer
from incref.qtensor.qtensor import QTensor
from incref.workflow.by_hessian import SharedHessian, need_one_factor, quantize_by_hessian
from incref.workflow.layer_hessian import input_transform, nothing_summed
from incref.workflow.layers import LayerReplacer, needs_hessian
from incref.workflow.processes import Processes
from incref.workflow.runs import Runs

__all__ = ["OnePass", "replace_in_one_pass"]

# Threads of calls, and of PyTorch beneath each of them, which keeps its own.
_MOST_THREADS = 4096


class _IrregularError(Exception):
    """A call reached a layer that is quantized already, by what others brought; or it did not reach one."""


@dataclass(frozen=True, kw_only=True)
class OnePass:
    """What came of a block.

    Attributes:
        outputs: what the runs return.
        together: names in the block of layers that got the same tensor in all runs, in the order of the calls.
    """

    outputs: list[Tensor]
    together: list[list[str]]


@dataclass(kw_only=True)
class _Run:
    """A call of the block.

    Attributes:
        number: which one.
        call: what can be suspended.
        at: the layer that it waits at; None for none.
        seen: what it brought to the layer that it reached last.
        is_same: whether that is what it brought to the one before, too.
        is_counted: whether the Hessian of the layer has it.
        step: the number of the last step that it waited for.
        due: layers that were quantized together with the one that it waited at, and that it has not reached yet.
    """

    number: int
    call: SuspendableCall[Tensor]
    at: str | None = None
    seen: SeenTensor | None = None
    is_same: bool = False
    is_counted: bool = False
    step: int = -1
    due: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A layer that was quantized.

    Attributes:
        name: of the layer.
        layer: the layer.
        transform: what it does to its input.
        fed: how many calls brought something.
        shared: what was found of it; None in processes that don't quantize.
    """

    name: str
    layer: Layer
    transform: Transform | None
    fed: int
    shared: SharedHessian | None


def replace_in_one_pass(
    names: Sequence[str],
    runs: Runs[Tensor],
    together: Sequence[Sequence[str]],
    replacer: LayerReplacer,
    processes: Processes,
) -> OnePass | None:
    """Calibrate and replace the layers of a block.

    Args:
        names: of the layers, in the order of the model.
        runs: of the block, each of which gives the hidden state that it returns. One is repeated at the end, to see
            whether it gives the same bits when it isn't suspended.
        together: names in the block of layers that may well get the same tensor: those that did in one like it.
        replacer: of the layers.
        processes: which share the runs.

    Returns:
        None if the block can't be done so in one of the processes: nothing is replaced then.
    """
    block = _Block(names, runs, together, replacer, processes)
    found = block.quantize()
    if found is None and together:
        block = _Block(names, runs, [], replacer, processes)
        found = block.quantize()
    if found is None:
        return None
    qweights, outputs = found
    for name in list(qweights):
        qweights[name] = replacer.keep(name, qweights[name])
    for name in names:
        replacer.replace(name, qweights.pop(name, None))
    return OnePass(outputs=outputs, together=block.together)


class _Block:
    """One pass of a block.

    Attributes:
        together: names in the block of layers that were quantized by the same Hessian.
    """

    def __init__(
        self,
        names: Sequence[str],
        runs: Runs[Tensor],
        together: Sequence[Sequence[str]],
        replacer: LayerReplacer,
        processes: Processes,
    ) -> None:
        self._given, self._replacer, self._processes = runs, replacer, processes
        self._own_names = dict(zip(names, runs.layers, strict=True))
        self._expected = together
        self.together: list[list[str]] = []
        # What the first process knows: the journal may be on its disk alone.
        known = processes.gather({name: replacer.find(name) is not None for name in names})[0]
        self._known = [name for name in names if known[name]]
        self._others = [name for name in names if not known[name] and not needs_hessian(replacer.left[name])]
        self._waited_for = [name for name in names if name not in {*self._known, *self._others}]
        self._runs: list[_Run] = []
        self._at_once = 1
        self._here = local()
        self._lock = Lock()
        self._hessians: dict[str, Hessian] = {}
        self._new: dict[str, nn.Module] = {}
        self._last: _Step | None = None

    def quantize(self) -> tuple[dict[str, QTensor], list[Tensor]] | None:
        """Find the weights, and what the runs return with them."""
        if not all(self._processes.gather(bool(self._waited_for) and self._may_have_threads())):
            return None
        made: dict[str, nn.Module] = {}
        for name in self._known:
            own = self._replacer.find(name) if self._processes.rank == 0 else None
            made[name] = self._replacer.make(name, self._processes.share(own, 0, self._replacer.device(name)))
        made |= {name: self._replacer.make(name) for name in self._others}
        with self._replacer.trying(made), self._waiting():
            if not self._take_all_steps():
                return None
            outputs = [_result(run.call) for run in self._runs]
        self._last = None
        made |= self._new
        with self._replacer.trying(made):
            if not all(self._processes.gather(self._is_right(outputs))):
                return None
        return {name: new.qweight for name, new in made.items() if isinstance(new, QuantLayer)}, outputs

    def _may_have_threads(self) -> bool:
        devices = {self._replacer.device(name).type for name in self._waited_for}
        each = self._given.threads or (torch.get_num_threads() if "cpu" in devices else 1)
        return len(self._given.functions) * each <= _MOST_THREADS

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Make the runs, and let them wait at the layers, until the block ends."""
        layers = {name: self._replacer.layer(name) for name in self._waited_for}
        handles = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in layers.items()]
        with patched({layer: self._forward(name) for name, layer in layers.items()}):
            try:
                self._prepare_runs()
                yield
            finally:
                for run in self._runs:
                    run.call.abandon()
                for handle in handles:
                    handle.remove()

    def _prepare_runs(self) -> None:
        given = self._given
        modules = given.modules()
        self._at_once = len(modules)
        for number in range(len(given.functions)):
            call = SuspendableCall(partial(self._call, number, modules[number % self._at_once]), threads=given.threads)
            self._runs.append(_Run(number=number, call=call))

    def _call(self, number: int, module: nn.Module) -> Tensor:
        self._here.run = self._runs[number]
        return self._given.functions[number](module)

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        transform = input_transform(self._replacer.layer(name), self._replacer.left[name])

        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            run, x = getattr(self._here, "run", None), args[0].detach()
            if run is None:
                raise _IrregularError
            if name in run.due and run.seen is not None and run.seen.is_still(x):
                run.due.remove(name)
                return
            if name in self._new or run.due:
                raise _IrregularError
            run.is_same = run.seen is not None and run.seen.is_still(x)
            run.at, run.seen = name, SeenTensor.now(x)
            # What is the same for all calls is not counted again.
            run.is_counted = not (run.is_same and run.step == len(self._new))
            if run.is_counted:
                self._count(name, x, transform)
            run.call.suspend()

        return hook

    def _count(self, name: str, x: Tensor, transform: Transform | None) -> None:
        with self._lock:
            if name not in self._hessians:
                # Not all calls brought what they did before, so that its factor is not needed again.
                self._last = None
                self._hessians[name] = nothing_summed(name, self._replacer)
        self._hessians[name].add(x if transform is None else transform(x))

    def _forward(self, name: str) -> Callable[[Tensor], object]:
        def forward(x: Tensor) -> object:
            return self._new[name](x)

        return forward

    def _take_all_steps(self) -> bool:
        """Quantize layer after layer until all runs are over; give whether that went well."""
        keeping = ExitStack()
        with keeping:
            while True:
                states = self._processes.gather(({run.at for run in self._runs if run.at}) if self._go_on() else None)
                keeping.close()
                if any(state is None for state in states):
                    return False
                reached = {name for state in states for name in state or ()}
                name = next((name for name in self._waited_for if name in reached), None)
                if name is None:
                    break
                for done in self._quantize(name):
                    new = self._new[done]
                    if isinstance(new, QuantLayer):
                        keeping.enter_context(new.keeping_weight())
        together = len(self.together)
        for name in self._waited_for:
            if name not in self._new:
                self._quantize(name)
        # What nothing reaches in this block has nothing in common.
        del self.together[together:]
        return True

    def _go_on(self) -> bool:
        """Let all runs go on as far as they can; give whether none of them failed."""
        rows: list[list[SuspendableCall[Tensor]]] = [[] for _ in range(self._at_once)]
        going = [run for run in self._runs if not run.call.is_over and (run.at is None or run.at in self._new)]
        for run in going:
            run.at = None
            rows[run.number % self._at_once].append(run.call)
        try:
            go_on_in_rows(rows)
        except Exception:  # noqa: BLE001  # step by step it fails again, or it failed for being suspended
            return False
        for run in going:
            if run.call.is_over:
                run.seen = None
        return not any(run.call.is_over and run.due for run in going)

    def _quantize(self, name: str) -> list[str]:
        """Quantize the layer called `name`, and all that should get the same, by what runs brought that wait at it."""
        replacer, processes = self._replacer, self._processes
        layer, scheme = replacer.layer(name), replacer.left[name]
        transform = input_transform(layer, scheme)
        fed = [run for run in self._runs if run.at == name]
        shared: SharedHessian | None = None
        if all(processes.gather(self._is_as_before(name, layer, transform, fed))):
            assert self._last is not None
            shared = self._last.shared
        else:
            self._last = None
            for run in fed:
                if not run.is_counted:
                    assert run.seen is not None
                    self._count(name, run.seen.x, transform)
            hessian = self._hessians.pop(name, None) or nothing_summed(name, replacer)
            processes.add_up(hessian, 0)
            if processes.rank == 0:
                total = hessian.take_total() if hessian.tokens else None
                shared = SharedHessian(hessian=total, is_for_one=True)
            del hessian
            self.together.append([])
        lot = [name, *self._expected_with(name, transform)]
        for one in lot:
            qweight = None if shared is None else replacer.quantize(one, partial(quantize_by_hessian, shared=shared))
            self._new[one] = replacer.make(one, processes.share(qweight, 0, replacer.device(one)))
            self.together[-1].append(self._own_names[one])
        self._last = _Step(name=name, layer=layer, transform=transform, fed=len(fed), shared=shared)
        for run in fed:
            run.step, run.due = len(self._new), set(lot[1:])
        return lot

    def _expected_with(self, name: str, transform: Transform | None) -> list[str]:
        """What should get the tensor that `name` gets, and needs the same Hessian and factor."""
        replacer, own = self._replacer, self._own_names[name]
        lot = next((lot for lot in self._expected if own in lot), [])
        found: list[str] = []
        for one in self._waited_for:
            if self._own_names[one] not in lot or one in self._new or one == name:
                continue
            layer, scheme = replacer.layer(one), replacer.left[one]
            if input_transform(layer, scheme) == transform and need_one_factor(
                [(layer, scheme), (replacer.layer(name), replacer.left[name])]
            ):
                found.append(one)
        return found

    def _is_as_before(self, name: str, layer: Layer, transform: Transform | None, fed: Sequence[_Run]) -> bool:
        """Whether every run that waits brought what it did to the layer before, with the same Hessian and factor."""
        last, left = self._last, self._replacer.left
        return (
            last is not None
            and len(fed) == last.fed
            and all(run.is_same and run.step == len(self._new) for run in fed)
            and transform == last.transform
            and need_one_factor([(layer, left[name]), (last.layer, left[last.name])])
        )

    def _is_right(self, outputs: Sequence[Tensor]) -> bool:
        """Whether a run gives the same when nothing suspends it, if it ever gives the same."""
        if not outputs:
            return True
        number = _most_telling(self._given.kinds, self._at_once)
        again = self._repeat(number)
        if torch.equal(again, outputs[number]):
            return True
        return not torch.equal(again, self._repeat(number))

    def _repeat(self, number: int) -> Tensor:
        outputs: list[Tensor] = []
        self._given.only(number).all(lambda _, output: outputs.append(output))
        return outputs[0]


def _result(call: SuspendableCall[Tensor]) -> Tensor:
    assert call.result is not None
    return call.result


def _most_telling(kinds: Sequence[Hashable], at_once: int) -> int:
    """Which call depends most on what others left in the modules of a block, if any does.

    That is not the last one in a module, and not one like it.
    """
    for number, kind in enumerate(kinds):
        last = range(number, len(kinds), at_once)[-1]
        if kind != kinds[last]:
            return number
    return 0
