"""`prepare`: settle what every layer of a model becomes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from incref.calibration.amax import AmaxCollector, input_keys
from incref.calibration.blocks import find_blocks
from incref.calibration.ranges import RangeCollector
from incref.calibration.recorder import CallRecorder
from incref.config.base import BaseConfig
from incref.config.resolve import QuantConfig, as_config
from incref.config.resolve import plan as plan_of
from incref.config.scheme import InputScheme, LayerScheme
from incref.errors import CheckpointError
from incref.modules.stage import Stage, stage_of
from incref.modules.trained import make_float, make_trained
from incref.workflow.layers import needs_hessian

if TYPE_CHECKING:
    from incref.workflow.lending import Lender

__all__ = ["ExampleInputs", "Plan", "attach_plan", "drop_plan", "find_plan", "make_plan", "prepare"]

ExampleInputs = Tensor | tuple[object, ...] | dict[str, object] | None
"""Arguments of one call of a model."""

_ATTRIBUTE = "incref_plan"
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `prepare` leaves on a model for `convert`.

    Attributes:
        schemes: what every layer that changes becomes, by its name.
        inputs: what happens to the inputs of every module without weights that changes, by its name.
        example_inputs: as given.
        recorder: of the calls that calibrate the model; None where no scheme needs that.
        amax: of what layers with static inputs are fed; None where there are none.
        ranges: of what layers with static inputs of integers are fed; None where there are none.
        measurements: the file that `amax` is written to by `finalize_calibration`, or was read from.
        only_measures: whether the model is prepared for nothing else.
        lender: of the values that the model lacks; None where it has all.
        trains: whether layers quantize their float weights in every call, to be trained.
    """

    schemes: dict[str, LayerScheme]
    inputs: dict[str, InputScheme] = field(default_factory=dict)
    example_inputs: ExampleInputs = None
    recorder: CallRecorder | None = None
    amax: AmaxCollector | None = None
    ranges: RangeCollector | None = None
    measurements: Path | None = None
    only_measures: bool = False
    lender: Lender | None = None
    trains: bool = False

    def attach(self, model: nn.Module) -> None:
        """Hook into `model`, or make its layers train."""
        if self.trains:
            for name, scheme in self.schemes.items():
                make_trained(model.get_submodule(name), scheme)
        if self.lender is not None:
            self.lender.attach(model)
        if self.recorder is not None:
            self.recorder.attach(model)
        if self.amax is not None:
            self.amax.attach({name: model.get_submodule(name) for name in self.amax.names})
        if self.ranges is not None:
            self.ranges.attach({name: model.get_submodule(name) for name in self.ranges.rules})

    @torch.no_grad()
    def calibrate(self, model: nn.Module, calls: CallRecorder) -> None:
        """Take calls of `model` that were recorded before, in place of calling it; the recorder is left as it is."""
        if self.recorder is not None:
            self.recorder.take_over(calls)
        measures_amax = self.amax is not None and not self.amax.amax
        if not measures_amax and self.ranges is None:
            return
        observers = replace(self, recorder=None, trains=False, amax=self.amax if measures_amax else None)
        observers.attach(model)
        try:
            for call in calls.calls:
                model(*call.args, **call.kwargs)
        finally:
            observers.detach(model)

    def detach(self, model: nn.Module) -> None:
        """Undo what `attach` did to `model`."""
        if self.trains:
            for name in self.schemes:
                make_float(model.get_submodule(name))
        if self.lender is not None:
            self.lender.detach()
        if self.recorder is not None:
            self.recorder.detach()
        if self.amax is not None:
            self.amax.detach()
        if self.ranges is not None:
            self.ranges.detach()


def prepare(
    model: nn.Module,
    quant_config: QuantConfig,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
    example_inputs: ExampleInputs = None,
    *,
    record_only: bool = False,
) -> nn.Module:
    """Prepare `model` for calibration and `convert`.

    If a layer is quantized with the help of calibration data, every call of the prepared model is recorded: its
    arguments, and what the first of its blocks gets. The model still computes what it did, but that models of
    transformers don't fill a cache.

    Args:
        model: any model; it has to be prepared once only.
        quant_config: a configuration, one as a dict, or a scheme for all linear layers but output heads.
        inplace: whether `model` itself is changed; if not, a copy is.
        example_inputs: arguments of one call, for algorithms that trace the model.
        record_only: whether calls are only recorded: they give None, and compute no more than it takes to know what
            the blocks of the model get. If layers with static inputs are measured in these calls, it has no effect.

    Returns:
        The prepared model.

    Raises:
        ValueError: if a rule of the configuration matches no layer, or the model is prepared already.
        LayerError: if a layer can't become what the configuration says; the message names it.
    """
    if find_plan(model) is not None or stage_of(model) is Stage.PREPARED:
        raise ValueError("the model is prepared already; call convert, or start from the float model")
    if stage_of(model) is Stage.EXPORTED:
        from incref.export.quantize import prepare_exported  # noqa: PLC0415  # what only graphs need

        assert isinstance(model, fx.GraphModule)
        return prepare_exported(model, as_config(quant_config), inplace=inplace)
    plan = make_plan(model, quant_config, example_inputs, record_only=record_only)
    if not inplace:
        model = copy.deepcopy(model)
    return attach_plan(model, plan)


def attach_plan(model: nn.Module, plan: Plan) -> nn.Module:
    """Prepare `model` as `plan` says, and keep it there for `convert`."""
    plan.attach(model)
    setattr(model, _ATTRIBUTE, plan)
    return model


def make_plan(
    model: nn.Module,
    quant_config: QuantConfig,
    example_inputs: ExampleInputs = None,
    *,
    values_path: Path | None = None,
    record_only: bool = False,
) -> Plan:
    """Settle what becomes of `model`, without changing it.

    Args:
        model: any model.
        quant_config: as in `prepare`.
        example_inputs: likewise.
        values_path: a directory of safetensors with the values that the model lacks; None for that of the
            configuration, if it names one.
        record_only: as in `prepare`.

    Raises:
        CheckpointError: if the configuration reads what was measured from a file that is not there.
        ValueError: see `prepare`.
        LayerError: likewise.
    """
    found = plan_of(model, quant_config)
    schemes, inputs = found.schemes, found.inputs
    config = as_config(quant_config)
    needs_blocks = any(needs_hessian(scheme) for scheme in schemes.values())
    needs_calls = needs_blocks or any(scheme.smoothing is not None for scheme in schemes.values())
    static = [
        name
        for part in (schemes, inputs)
        for name, scheme in part.items()
        if scheme.is_static and not (isinstance(scheme, LayerScheme) and scheme.input_range is not None)
    ]
    ranges = {
        name: scheme.input_range
        for name, scheme in schemes.items()
        if scheme.input_range is not None and scheme.smoothing is None
    }
    per_channel = isinstance(config, BaseConfig) and config.measures_channels
    amax = AmaxCollector(static, per_channel=per_channel) if static else None
    if values_path is None and isinstance(config, BaseConfig):
        values_path = config.values_path
    measurements = config.measurements if isinstance(config, BaseConfig) else None
    if amax is not None and measurements is not None and isinstance(config, BaseConfig) and config.reads_measurements:
        from incref.workflow.measurements import read_measurements  # noqa: PLC0415  # files, which few models have

        amax = AmaxCollector([])
        keys = [key for name in static for key in input_keys(name, model.get_submodule(name))]
        amax.amax = _of_all(read_measurements(measurements), keys, measurements)
    recorder = None
    if needs_calls:
        computes = not record_only or amax is not None or bool(ranges)
        recorder = CallRecorder(model, find_blocks(model) if needs_blocks else [], computes=computes)
    return Plan(
        schemes=schemes,
        inputs=inputs,
        example_inputs=example_inputs,
        recorder=recorder,
        amax=amax,
        ranges=RangeCollector(ranges) if ranges else None,
        measurements=measurements,
        only_measures=isinstance(config, BaseConfig) and config.only_measures,
        lender=None if values_path is None else _lender(model, values_path),
    )


def _lender(model: nn.Module, path: Path) -> Lender:
    from incref.workflow.lending import Lender  # noqa: PLC0415  # likewise

    return Lender(model, path, find_blocks(model))


def _of_all(found: dict[str, Tensor], names: list[str], path: Path) -> dict[str, Tensor]:
    """Pick what was measured for `names`."""
    missing = [name for name in names if name not in found]
    if missing:
        raise CheckpointError(
            f"{path} says nothing of {', '.join(missing[:_LISTED])}; measure again with this configuration"
        )
    return {name: found[name] for name in names}


def find_plan(model: nn.Module) -> Plan | None:
    """What `prepare` left on `model`, or None."""
    plan = getattr(model, _ATTRIBUTE, None)
    return plan if isinstance(plan, Plan) else None


def drop_plan(model: nn.Module) -> None:
    """Take away what `prepare` left on `model`, if anything, and stop to record its calls."""
    plan = find_plan(model)
    if plan is not None:
        plan.detach(model)
    vars(model).pop(_ATTRIBUTE, None)
