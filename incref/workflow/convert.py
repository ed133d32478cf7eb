"""`convert`: quantize the weights of a model, layer by layer."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from incref.calibration.recorder import CallRecorder
from incref.config.resolve import QuantConfig, resolve
from incref.config.scheme import LayerScheme
from incref.errors import LayerError
from incref.modules.replace import disable_fast_paths
from incref.workflow.blockwise import replace_blockwise
from incref.workflow.layers import LayerReplacer, Progress, needs_calibration
from incref.workflow.prepare import drop_plan, find_plan

__all__ = ["convert"]


def convert(
    model: nn.Module,
    quant_config: QuantConfig | None = None,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
    *,
    progress: Progress | None = None,
    calls: CallRecorder | None = None,
) -> nn.Module:
    """Replace the layers of `model` by quantized ones.

    Args:
        model: a prepared model, or any with `quant_config`.
        quant_config: what layers become; None for a prepared model.
        inplace: whether `model` itself is changed; if not, a copy is, which shares no tensor with it.
        progress: called after every layer.
        calls: those of the float model to calibrate with, as `record_calls` gives them, for a model that is not
            prepared; they can be used again.

    Returns:
        The converted model.

    Raises:
        ValueError: if there is no configuration, or one for a model that was prepared with another; if a layer needs
            calibration data, and the prepared model was not called; or if a prepared model is given `calls`.
        LayerError: if the weight of a layer is not finite or has no values, before anything is converted; or if
            calibration data is not finite.

    Warns:
        CalibrationWarning: if a layer that needs calibration was never called, or its Hessian had to be damped more.
    """
    schemes = _schemes(model, quant_config)
    plan = find_plan(model)
    if plan is not None and calls is not None:
        raise ValueError("a prepared model has calls of its own; leave calls out, or start from the float model")
    recorder = calls if plan is None else plan.recorder
    calibrated = [name for name, scheme in schemes.items() if needs_calibration(scheme)]
    if calibrated and (recorder is None or not recorder.calls):
        raise ValueError(
            f"{calibrated[0]} is quantized with the help of calibration data, and there is none; "
            "call prepare, then the prepared model on some batches, then convert"
        )
    layers = {name: model.get_submodule(name) for name in schemes}
    for name, layer in layers.items():
        _require_finite(name, layer)
    original = model
    if recorder is not None:
        recorder.detach()
    if not inplace:
        model = _copy(model, layers)
    drop_plan(model)
    if plan is not None and plan.recorder is not None and not inplace:
        plan.recorder.attach(original)
    del layers, original
    replacer = LayerReplacer(model, schemes, progress)
    if calibrated:
        assert recorder is not None
        replace_blockwise(model, recorder, replacer)
    for name in list(replacer.left):
        replacer.replace(name)
    disable_fast_paths(model)
    return model


def _copy(model: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """Copy `model`, but for what it was prepared with and for the weights of `layers`, which are to be replaced."""
    memo: dict[int, object] = {id(layer.weight): layer.weight for layer in layers.values()}
    plan = find_plan(model)
    memo[id(plan)] = plan
    return copy.deepcopy(model, memo)


def _schemes(model: nn.Module, quant_config: QuantConfig | None) -> dict[str, LayerScheme]:
    plan = find_plan(model)
    if quant_config is None:
        if plan is None:
            raise ValueError("the model is not prepared; pass quant_config, or call prepare first")
        return plan.schemes
    schemes = resolve(model, quant_config)
    if plan is not None and plan.schemes != schemes:
        raise ValueError("the model was prepared with another configuration; leave quant_config out")
    return schemes


def _require_finite(name: str, layer: nn.Module) -> None:
    weight = layer.get_parameter("weight")
    if weight.is_meta:
        raise LayerError(f"{name}: the weight is on the meta device and has no values; load the model first")
    if not bool(torch.isfinite(weight).all()):
        raise LayerError(f"{name}: a weight must be finite, and this one of shape {tuple(weight.shape)} has NaN or Inf")
