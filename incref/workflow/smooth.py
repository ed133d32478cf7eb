"""Smooths the inputs of a model's layers: finds scales of features, and folds them into norms."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from incref.algorithms.smoothquant import choose_alpha, share_alpha, smoothing_scale
from incref.algorithms.weight import quantize_weight
from incref.calibration.channels import ChannelCollector
from incref.calibration.ranges import RangeObserver
from incref.calibration.recorder import CallRecorder
from incref.calibration.sources import Sources, find_sources
from incref.calibration.thresholds import scale_of_range
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme
from incref.config.smoothing import Smoothing
from incref.errors import CalibrationWarning, LayerError
from incref.qtensor.parts import dequantize_parts, quantize_parts

__all__ = ["Smoothed", "smooth"]

_Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """What becomes of the input of a layer.

    Attributes:
        scale: what the features of its weight are multiplied with, float32 [K]; None where no norm could be found.
        factor: what the layer multiplies those of its input with; None where a norm does, or nothing.
        observer: of the input, multiplied so; None where scales are found in every call.
    """

    scale: Tensor | None
    factor: Tensor | None
    observer: RangeObserver | None


@torch.no_grad()
def smooth(model: nn.Module, schemes: Mapping[str, LayerScheme], recorder: CallRecorder) -> dict[str, Smoothed]:
    """Find scales for the layers of `model` that are smoothed, and scale the norms that they are folded into.

    Args:
        model: a float model; its norms are changed where scales are folded.
        schemes: what its layers become.
        recorder: of calls.

    Returns:
        By name of the layer; those that were never called are missing.

    Raises:
        LayerError: if calibration data is not finite.

    Warns:
        CalibrationWarning: if scales can't be folded.
    """
    smoothings = {name: scheme.smoothing for name, scheme in schemes.items() if scheme.smoothing is not None}
    layers = {name: _linear(model, name) for name in smoothings}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    runs = [partial(model, *call.args, **call.kwargs) for call in recorder.calls]
    try:
        channels = ChannelCollector(layers)
        _run_all(runs, channels.handles)
        _require_finite(channels.extremes)
        sources = find_sources(model, layers, runs[0])
        groups, norms = _group({name: smoothings[name] for name in channels.extremes}, sources)
        alphas = _choose_alphas(groups, layers, schemes, channels.extremes, runs)
        scales = {
            name: _scale_of(group, layers, channels.extremes, alphas[group[0]]) for group in groups for name in group
        }
        observers = _observe(layers, schemes, scales, runs)
    finally:
        for module, mode in modes.items():
            module.training = mode
    for first, norm in norms.items():
        for parameter in model.get_submodule(norm).parameters():
            parameter.copy_((parameter.to(torch.float32) / scales[first]).to(parameter.dtype))
    folded = {name for group in groups if group[0] in norms for name in group}
    return {
        name: Smoothed(
            scale=scales.get(name),
            factor=None if name in folded or name not in scales else 1 / scales[name],
            observer=observers.get(name),
        )
        for name in (*scales, *(name for name in observers if name not in scales))
    }


def _linear(model: nn.Module, name: str) -> Layer:
    layer = model.get_submodule(name)
    assert isinstance(layer, Layer)
    return layer


def _group(smoothings: Mapping[str, Smoothing], sources: Sources) -> tuple[list[list[str]], dict[str, str]]:
    """The layers that share scales, and the norms that take those of a group, by its first layer."""
    groups: list[list[str]] = []
    norms: dict[str, str] = {}
    for together in _fed_once(sources):
        first = smoothings[together[0]]
        # Layers that are told differently share nothing, and no norm can divide for all of them.
        if not first.is_shared or any(smoothings[name] != first for name in together):
            continue
        if not first.folds:
            groups.append(together)
        elif together[0] in sources.norms:
            groups.append(together)
            norms[together[0]] = sources.norms[together[0]]
    grouped = {name for group in groups for name in group}
    groups += [[name] for name, smoothing in smoothings.items() if name not in grouped and not smoothing.folds]
    left = [name for name, smoothing in smoothings.items() if name not in grouped and smoothing.folds]
    if left:
        warnings.warn(
            f"no norm feeds {', '.join(left)} alone, so that their scales can't be folded; they are quantized without "
            "smoothing; set folding=False to multiply their inputs",
            CalibrationWarning,
            2,
        )
    return groups, norms


def _fed_once(sources: Sources) -> list[list[str]]:
    """The groups of which every layer was called once."""
    calls = Counter(name for together in sources.together for name in together)
    return [together for together in sources.together if all(calls[name] == 1 for name in together)]


def _run_all(runs: Sequence[_Run], handles: Sequence[torch.utils.hooks.RemovableHandle]) -> None:
    """Run everything, with hooks that are removed then."""
    try:
        for run in runs:
            run()
    finally:
        for handle in handles:
            handle.remove()


def _require_finite(extremes: Mapping[str, Tensor]) -> None:
    for name, values in extremes.items():
        if not bool(values.isfinite().all()):
            raise LayerError(f"{name}: calibration data made its input NaN or Inf; look at what the model is fed")


def _scale_of(
    group: Sequence[str], layers: Mapping[str, Layer], extremes: Mapping[str, Tensor], alpha: float
) -> Tensor:
    """The scale that all layers of a group have."""
    w_amax = torch.stack([layers[name].weight.abs().amax(0).to(torch.float32) for name in group]).amax(0)
    x_amax = torch.stack([extremes[name].abs().amax(0) for name in group]).amax(0)
    return smoothing_scale(x_amax, w_amax, alpha)


def _choose_alphas(
    groups: Sequence[Sequence[str]],
    layers: Mapping[str, Layer],
    schemes: Mapping[str, LayerScheme],
    extremes: Mapping[str, Tensor],
    runs: Sequence[_Run],
) -> dict[str, float]:
    """The alpha of every group, by its first layer."""
    smoothing_of = {group[0]: _smoothing(schemes[group[0]]) for group in groups}
    searched = [group for group in groups if len(smoothing_of[group[0]].alphas) > 1]
    errors: dict[str, dict[float, float]] = {name: {} for group in searched for name in group}
    for alpha in sorted({alpha for group in searched for alpha in smoothing_of[group[0]].alphas}):
        meters: dict[str, _ErrorMeter] = {}
        for group in searched:
            if alpha in smoothing_of[group[0]].alphas:
                scale = _scale_of(group, layers, extremes, alpha)
                for name in group:
                    meters[name] = _ErrorMeter(layers[name], schemes[name], scale, extremes[name])
        handles = [layers[name].register_forward_pre_hook(meter) for name, meter in meters.items()]
        _run_all(runs, handles)
        for name, meter in meters.items():
            errors[name][alpha] = meter.error
    found = {first: smoothing.alphas[0] for first, smoothing in smoothing_of.items()}
    for group in searched:
        smoothing = smoothing_of[group[0]]
        chosen = [choose_alpha(list(errors[name]), list(errors[name].values()), smoothing.preferred) for name in group]
        found[group[0]] = share_alpha(chosen, smoothing.shared_alpha)
    return found


def _smoothing(scheme: LayerScheme) -> Smoothing:
    assert scheme.smoothing is not None
    return scheme.smoothing


class _ErrorMeter:
    """Sums up the squared error that quantization makes in the output of a layer, as a hook before its calls.

    A static input has the range of all calibration data, scaled.
    """

    def __init__(self, layer: Layer, scheme: LayerScheme, scale: Tensor, extremes: Tensor) -> None:
        assert scheme.activation is not None
        self.error = 0.0
        self._spec = scheme.activation
        self._factor = 1 / scale
        self._weight = layer.weight.detach().to(torch.float32)
        self._quantized = quantize_weight(self._weight * scale, scheme).dequantize()
        ends = extremes * self._factor
        self._static: tuple[Tensor | None, Tensor | None] = (None, None)
        if scheme.is_static:
            self._static = scale_of_range(torch.stack([ends[0].min(), ends[1].max()]), self._spec)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        del module
        x = args[0].detach().to(torch.float32)
        parts = quantize_parts(x * self._factor, self._spec, *self._static)
        got = dequantize_parts(parts, self._spec, torch.float32) @ self._quantized.T
        self.error += float((got - x @ self._weight.T).to(torch.float64).square().sum())


def _observe(
    layers: Mapping[str, Layer],
    schemes: Mapping[str, LayerScheme],
    scales: Mapping[str, Tensor],
    runs: Sequence[_Run],
) -> dict[str, RangeObserver]:
    """Observe all smoothed inputs that are static."""
    observers: dict[str, RangeObserver] = {}
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in layers.items():
        rule = schemes[name].input_range
        if rule is not None:
            observers[name] = RangeObserver(rule)
            handles.append(layer.register_forward_pre_hook(_watching(observers[name], scales.get(name))))
    _run_all(runs, handles)
    return {name: observer for name, observer in observers.items() if observer.extremes is not None}


def _watching(observer: RangeObserver, scale: Tensor | None):  # type: ignore[no-untyped-def]  # noqa: ANN202  # as torch has it
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        del module
        observer.observe(args[0] if scale is None else (args[0] * (1 / scale)).to(args[0].dtype))

    return hook
