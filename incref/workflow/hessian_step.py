"""Layers that are calibrated by the same runs, quantized by the Hessians that those gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from incref.calibration.collect import HessianCollector
from incref.calibration.hessian import Hessian
from incref.config.stored_weight import stored_weight
from incref.qtensor.qtensor import QTensor
from incref.workflow.by_hessian import SharedHessian, need_one_factor, quantize_by_hessian
from incref.workflow.layer_hessian import nothing_summed
from incref.workflow.layers import LayerReplacer
from incref.workflow.processes import Processes

__all__ = ["quantize_step"]


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """Layers with one Hessian.

    Attributes:
        names: of the layers.
        sets: which sums of the collector make it up.
        owner: the rank of the process that quantizes them.
    """

    names: list[str]
    sets: list[tuple[str, ...]]
    owner: int


def quantize_step(
    names: Sequence[str], collector: HessianCollector, replacer: LayerReplacer, processes: Processes
) -> dict[str, QTensor]:
    """Quantize the layers called `names`, and give the weight of each, the same in every process."""
    shared = _share_out(names, collector, replacer, processes)
    own: list[tuple[_Shared, Hessian]] = []
    for index, one in enumerate(shared):
        later = {names for other in shared[index + 1 :] for names in other.sets}
        hessian = collector.take(one.sets, later) or nothing_summed(one.names[0], replacer)
        processes.add_up(hessian, one.owner)
        if one.owner == processes.rank:
            own.append((one, hessian))
        del hessian
    done: dict[str, QTensor] = {}
    while own:
        one, hessian = own.pop(0)
        layers = [(replacer.layer(name), replacer.left[name]) for name in one.names]
        total = hessian.take_total() if hessian.tokens else None
        found = SharedHessian(hessian=total, is_for_one=need_one_factor(layers))
        del hessian, total
        for name in one.names:
            qweight = replacer.quantize(name, partial(quantize_by_hessian, shared=found))
            done[name] = replacer.keep(name, qweight)
    owners = {name: one.owner for one in shared for name in one.names}
    return {name: processes.share(done.get(name), owners[name], replacer.device(name)) for name in names}


def _share_out(
    names: Sequence[str], collector: HessianCollector, replacer: LayerReplacer, processes: Processes
) -> list[_Shared]:
    """Find the layers that have one Hessian, and give each such lot to the process with the least to do so far."""
    sets = list(dict.fromkeys(one for found in processes.gather(collector.sets) for one in found))
    lots: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name in names:
        lots.setdefault(tuple(one for one in sets if name in one), []).append(name)
    loads = [0] * processes.size
    shared: list[_Shared] = []
    for own_sets, members in lots.items():
        # A layer that no process called has nothing in common with others.
        for lot in [members] if own_sets else [[name] for name in members]:
            owner = loads.index(min(loads))
            weights = [stored_weight(replacer.layer(name), replacer.left[name]) for name in lot]
            columns = weights[0].shape[1]
            loads[owner] += columns**3 + sum(weight.numel() * columns for weight in weights)
            shared.append(_Shared(names=lot, sets=list(own_sets), owner=owner))
    return shared
