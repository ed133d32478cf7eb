"""`convert`: quantize the weights of a model, layer by layer."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from incref.calibration.recorder import Call, CallRecorder
from incref.config.resolve import QuantConfig, as_config
from incref.errors import UnsupportedError
from incref.modules.replace import disable_fast_paths
from incref.modules.stage import Stage, stage_of
from incref.workflow.bind import bind, resolve_binding, settle, target_device
from incref.workflow.inputs import replace_inputs
from incref.workflow.layers import LayerReplacer, Progress, needs_hessian, require_finite
from incref.workflow.own_save import give_save
from incref.workflow.prepare import Plan, drop_plan, find_plan, make_plan
from incref.workflow.processes import Processes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from incref.checkpoints.layer_journal import LayerJournal

__all__ = ["convert"]


def convert(
    model: nn.Module,
    quant_config: QuantConfig | None = None,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
    *,
    progress: Progress | None = None,
    calls: CallRecorder | None = None,
    journal: str | Path | None = None,
    group: ProcessGroup | None = None,
    backend: str | None = None,
    fallback: str | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Replace the layers of `model` by quantized ones.

    Args:
        model: a prepared model, or any with `quant_config`.
        quant_config: what layers become; None for a prepared model.
        inplace: whether `model` itself is changed; if not, a copy is, which shares no tensor with it.
        progress: called after every layer.
        calls: those of the float model to calibrate with, as `record_calls` gives them, for a model that is not
            prepared; they can be used again.
        journal: a directory in which every weight is kept as soon as it is quantized. A conversion that was stopped
            goes on where it was when it is started again, from the float model and with the same calls; the weights of
            the converted model stay in those files until they are looked at.
        group: processes that convert the same model together, such as `torch.distributed.group.WORLD`. Each of them
            calls its prepared model with some of the calibration data, and quantizes some of the layers; all get the
            model that one process would get from all of the data.
        backend: what multiplies in quantized layers: "reference"; "auto", for each layer the first backend that can run
            here, is fast on its device and has no reason against it, else the reference; or the name of a backend, such
            as "cpu", "triton" or "hpu". None for "hpu" on that device, else "reference". `incref.modules.product` says
            which bits depend on it.
        fallback: "reference" where that computes what the named backend can't; None where that is an error.
        device: where the converted model is put; "hpu" also where a simulator stands for it. None for what
            INCREF_TARGET_DEVICE or INC_TARGET_DEVICE names in the environment; if neither does, to leave it.

    Returns:
        The converted model. Its `save` is `incref.save`, unless its class has a method of that name.

    Raises:
        ValueError: if there is no configuration, or one for a model that was prepared with another; if a layer needs
            calibration data, and the prepared model was not called; or if a prepared model is given `calls`.
        LayerError: if the weight of a layer is not finite or has no values, before anything is converted; or if
            calibration data is not finite.
        CheckpointError: if `journal` is a directory of something else.
        UnsupportedError: for static inputs with a `group`; if the named backend can't run here, or can't compute a
            layer and there is no `fallback`.

    Warns:
        CalibrationWarning: if a layer that needs calibration was never called, or its Hessian had to be damped more.
    """
    if stage_of(model) in (Stage.EXPORTED, Stage.PREPARED):
        if any(given is not None for given in (calls, journal, group, backend, fallback, device)):
            raise UnsupportedError("a captured graph is converted at once, by calls of its own; leave the others out")
        return _convert_graph(model, quant_config, inplace=inplace)
    device = target_device(device)
    binding, place = resolve_binding(backend, fallback, device)
    plan = find_plan(model)
    if plan is not None and calls is not None:
        raise ValueError("a prepared model has calls of its own; leave calls out, or start from the float model")
    try:
        if plan is not None:
            # Hooks would stand in the way of checks, and be copied.
            plan.detach(model)
        settled = _settle(model, plan, quant_config, calls)
        model = _convert(model, settled, journal, Processes(group), inplace=inplace, progress=progress)
        return settle(bind(model if place is None else model.to(place), binding), device)
    finally:
        if plan is not None and find_plan(model) is plan:
            plan.attach(model)


def _convert_graph(model: nn.Module, quant_config: QuantConfig | None, *, inplace: bool) -> nn.Module:
    from incref.export.quantize import convert_exported, prepare_exported  # noqa: PLC0415  # what only graphs need

    assert isinstance(model, fx.GraphModule)
    if stage_of(model) is Stage.EXPORTED:
        if quant_config is None:
            raise ValueError("the model is not prepared; pass quant_config, or call prepare first")
        model, inplace = prepare_exported(model, as_config(quant_config), inplace=inplace), True
    elif quant_config is not None:
        raise ValueError("a captured graph is prepared with its configuration; leave quant_config out")
    return convert_exported(model, inplace=inplace)


def _convert(
    model: nn.Module,
    plan: Plan,
    journal: str | Path | None,
    processes: Processes,
    *,
    inplace: bool,
    progress: Progress | None,
) -> nn.Module:
    amax = {} if plan.amax is None else plan.amax.amax
    observers = {} if plan.ranges is None else plan.ranges.observers
    calls = [] if plan.recorder is None else plan.recorder.calls
    by_hessian = [name for name, scheme in plan.schemes.items() if needs_hessian(scheme)]
    smooth_ones = [name for name, scheme in plan.schemes.items() if scheme.smoothing is not None]
    by_range = [name for name in plan.schemes if plan.schemes[name].input_range is not None and name not in smooth_ones]
    static = [name for part in (plan.schemes, plan.inputs) for name, scheme in part.items() if scheme.is_static]
    _require_one_process(plan, static + smooth_ones, processes)
    by_amax = [name for name in static if name not in by_range + smooth_ones]
    has_calls = all(processes.gather(bool(calls)))
    for names, found in ((by_hessian, has_calls), (smooth_ones, calls), (by_amax, amax), (by_range, observers)):
        for name in names if not found else ():
            raise ValueError(
                f"{name} is quantized with the help of calibration data, and there is none; "
                "call prepare, then the prepared model on some batches, then convert"
            )
    layers = {name: model.get_submodule(name) for name in plan.schemes}
    for name, layer in layers.items():
        if plan.lender is None:
            require_finite(name, layer)
    # Before hooks and replacements, which don't belong to what it is made of.
    kept = _open_journal(model, plan, journal, calls, processes)
    if not inplace:
        # The weights that are to be replaced need no copy, nor what the model was prepared with.
        memo: dict[int, object] = {id(layer.weight): layer.weight for layer in layers.values()}
        memo[id(find_plan(model))] = find_plan(model)
        model = copy.deepcopy(model, memo)
    drop_plan(model)
    del layers
    smoothed = {}
    if plan.recorder is not None and smooth_ones:
        from incref.workflow.smooth import smooth  # noqa: PLC0415  # what few schemes need

        smoothed = smooth(model, plan.schemes, plan.recorder)
    lender = plan.lender
    replacer = LayerReplacer(
        model,
        plan.schemes,
        amax=amax,
        observers=observers,
        smoothed=smoothed,
        progress=progress,
        lender=lender,
        journal=kept,
    )
    with nullcontext() if lender is None else lender.lending(model):
        if plan.recorder is not None and by_hessian:
            from incref.workflow.blockwise import replace_blockwise  # noqa: PLC0415  # likewise

            replace_blockwise(model, plan.recorder, replacer, processes)
        for name in list(replacer.left):
            replacer.replace(name)
    if lender is not None:
        lender.keep(model)
    replace_inputs(model, plan.inputs, amax)
    disable_fast_paths(model)
    give_save(model)
    return model


def _require_one_process(plan: Plan, measured: list[str], processes: Processes) -> None:
    """Refuse what is measured in a model that several processes share, or that has not all its values."""
    if measured and processes.size > 1:
        raise UnsupportedError(f"what {measured[0]} is fed has to be measured by one process; leave group out")
    if measured and plan.lender is not None:
        raise UnsupportedError(f"what {measured[0]} is fed is measured in a whole model; leave model_path empty")


def _open_journal(
    model: nn.Module, plan: Plan, journal: str | Path | None, calls: list[Call], processes: Processes
) -> LayerJournal | None:
    """Open the journal of this run, in the first process."""
    if not all(found == journal for found in processes.gather(journal)):
        raise ValueError(f"all processes must name the same journal, and this one names {journal}")
    if journal is None:
        return None
    from incref.checkpoints.layer_journal import LayerJournal  # noqa: PLC0415  # files, which few conversions keep
    from incref.workflow.fingerprint import fingerprint  # noqa: PLC0415

    run = fingerprint(model, plan.schemes, calls, plan.lender, processes)
    return LayerJournal(Path(journal), run) if processes.rank == 0 else None


def _settle(model: nn.Module, plan: Plan | None, quant_config: QuantConfig | None, calls: CallRecorder | None) -> Plan:
    """Find out what becomes of `model`."""
    if plan is not None and plan.only_measures:
        raise ValueError(
            "the model was prepared to be measured; call finalize_calibration, then convert the float model with "
            'mode="QUANTIZE"'
        )
    if quant_config is None:
        if plan is None:
            raise ValueError("the model is not prepared; pass quant_config, or call prepare first")
        return plan
    new = make_plan(model, quant_config)
    if plan is not None and (plan.schemes, plan.inputs) != (new.schemes, new.inputs):
        raise ValueError("the model was prepared with another configuration; leave quant_config out")
    if plan is None and calls is not None:
        new.calibrate(model, calls)
    return plan or new
