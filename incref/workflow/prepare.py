"""`prepare`: settle what every layer of a model becomes."""

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from incref.calibration.blocks import find_blocks
from incref.calibration.recorder import CallRecorder
from incref.config.resolve import QuantConfig, resolve
from incref.config.scheme import LayerScheme
from incref.workflow.layers import needs_calibration

__all__ = ["ExampleInputs", "Plan", "drop_plan", "find_plan", "prepare"]

ExampleInputs = Tensor | tuple[object, ...] | dict[str, object] | None
"""Arguments of one call of a model."""

_ATTRIBUTE = "incref_plan"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `prepare` leaves on a model for `convert`.

    Attributes:
        schemes: what every layer that changes becomes, by its name.
        example_inputs: as given.
        recorder: of the calls that calibrate the model; None where no scheme needs that.
    """

    schemes: dict[str, LayerScheme]
    example_inputs: ExampleInputs = None
    recorder: CallRecorder | None = None


def prepare(
    model: nn.Module,
    quant_config: QuantConfig,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
    example_inputs: ExampleInputs = None,
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

    Returns:
        The prepared model.

    Raises:
        ValueError: if a rule of the configuration matches no layer, or the model is prepared already.
        LayerError: if a layer can't become what the configuration says; the message names it.
    """
    if find_plan(model) is not None:
        raise ValueError("the model is prepared already; call convert, or start from the float model")
    schemes = resolve(model, quant_config)
    if not inplace:
        model = copy.deepcopy(model)
    recorder = None
    if any(needs_calibration(scheme) for scheme in schemes.values()):
        recorder = CallRecorder(model, find_blocks(model))
    setattr(model, _ATTRIBUTE, Plan(schemes=schemes, example_inputs=example_inputs, recorder=recorder))
    return model


def find_plan(model: nn.Module) -> Plan | None:
    """What `prepare` left on `model`, or None."""
    plan = getattr(model, _ATTRIBUTE, None)
    return plan if isinstance(plan, Plan) else None


def drop_plan(model: nn.Module) -> None:
    """Take away what `prepare` left on `model`, if anything, and stop to record its calls."""
    plan = find_plan(model)
    if plan is not None and plan.recorder is not None:
        plan.recorder.detach()
    vars(model).pop(_ATTRIBUTE, None)
