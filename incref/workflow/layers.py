"""Replaces the layers of a model, one by one."""

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from incref.algorithms.factor import Factor
from incref.algorithms.gptq import gptq
from incref.algorithms.gptq_grouped import gptq_grouped
from incref.algorithms.maxabs import scale_of
from incref.algorithms.weight import quantize_weight
from incref.calibration.ranges import RangeObserver
from incref.calibration.thresholds import scale_of_range
from incref.config.maxabs import MaxAbsScale
from incref.config.method import GPTQ, Cast, DeadColumns
from incref.config.rules import Layer
from incref.config.scheme import CAST_DTYPES, LayerScheme
from incref.config.stored_weight import stored_weight
from incref.errors import CalibrationWarning, LayerError
from incref.formats import FloatFormat
from incref.modules.cast import cast_layer
from incref.modules.input import round_elementwise
from incref.modules.layer import QuantLayer
from incref.modules.replace import find_holders, replace_layer
from incref.modules.table import quantized_layer
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec
from incref.workflow.smooth import Smoothed

__all__ = ["LayerReplacer", "Progress", "Statistics", "needs_calibration", "needs_hessian", "static_scale"]

Progress = Callable[[str, int, int], None]
"""Called with the name of a layer that was converted, how many are, and how many there are in all."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What calibration found about the input of a layer.

    Attributes:
        hessian: float64 [K, K]; None if the layer was never called, or needs none.
        amax: its largest magnitude, float32 []; None likewise.
        observer: what says which range it has; None likewise.
        smoothed: how its features are scaled; None likewise.
        factors: those that were made of this Hessian already, by what else they depend on.
    """

    hessian: Tensor | None = None
    amax: Tensor | None = None
    observer: RangeObserver | None = None
    smoothed: Smoothed | None = None
    factors: dict[Hashable, Factor] = field(default_factory=dict)


def needs_calibration(scheme: LayerScheme) -> bool:
    """Whether a layer, or what its scheme says of a whole model, is quantized with the help of calibration data."""
    if scheme.smoothing is not None:
        return True
    return needs_hessian(scheme) or scheme.is_static or (scheme.inputs is not None and scheme.inputs.is_static)


def needs_hessian(scheme: LayerScheme) -> bool:
    """Whether the weight is quantized by the Hessian of its layer."""
    return isinstance(scheme.method, GPTQ)


class LayerReplacer:
    """Puts quantized layers in place of those of a model.

    Attributes:
        left: the schemes of the layers that are not replaced yet, by name, in the order of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        schemes: Mapping[str, LayerScheme],
        *,
        amax: Mapping[str, Tensor],
        observers: Mapping[str, RangeObserver],
        smoothed: Mapping[str, Smoothed],
        progress: Progress | None,
    ) -> None:
        """Prepare for the layers of `model` that `schemes` names; `amax`, `observers`, `smoothed` speak of inputs."""
        self.left = dict(schemes)
        self._model = model
        self._holders = find_holders(model)
        self._amax = amax
        self._observers = observers
        self._smoothed = smoothed
        self._progress = progress
        self._total = len(schemes)

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        layer = self._model.get_submodule(name)
        assert isinstance(layer, Layer)
        return layer

    def replace(self, name: str, statistics: Statistics | None = None) -> None:
        """Quantize the layer called `name`, and put it in its place.

        Raises:
            LayerError: if the weight can't be quantized as its scheme says.
        """
        layer, scheme = self.layer(name), self.left.pop(name)
        smoothed = self._smoothed.get(name)
        if scheme.smoothing is not None:
            statistics = Statistics(observer=None if smoothed is None else smoothed.observer, smoothed=smoothed)
        elif scheme.is_static:
            statistics = Statistics(amax=self._amax.get(name), observer=self._observers.get(name))
        new = _new_layer(name, layer, scheme, statistics)
        replace_layer(self._holders, layer, new)
        if self._progress is not None:
            self._progress(name, self._total - len(self.left), self._total)


@torch.no_grad()
def _new_layer(name: str, layer: Layer, scheme: LayerScheme, statistics: Statistics | None) -> nn.Module:
    if not isinstance(scheme.method, Cast):
        return _quantize_layer(name, layer, scheme, statistics)
    try:
        return cast_layer(layer, CAST_DTYPES[scheme.weight.fmt.name])
    except ValueError as error:
        raise LayerError(f"{name}: {error}") from error


def _quantize_layer(name: str, layer: Layer, scheme: LayerScheme, statistics: Statistics | None) -> QuantLayer:
    weight = stored_weight(layer, scheme).detach()
    if scheme.elementwise is not None:
        weight = round_elementwise(weight, scheme.elementwise)
    smoothed = None if statistics is None else statistics.smoothed
    if smoothed is not None and smoothed.scale is not None:
        weight = (weight * smoothed.scale).to(weight.dtype)
    try:
        if isinstance(scheme.method, GPTQ):
            assert statistics is not None
            qweight = _by_gptq(name, weight, scheme, scheme.method, statistics)
        else:
            qweight = quantize_weight(weight, scheme)
    except (TypeError, ValueError) as error:
        raise LayerError(
            f"{name}: a weight of shape {tuple(weight.shape)} and {weight.dtype} can't become "
            f"{scheme.weight.fmt.name}: {error}"
        ) from error
    scale, zero_point = _static_input(name, scheme, statistics) if scheme.is_static else (None, None)
    return quantized_layer(
        layer,
        qweight,
        getattr(layer, "bias", None),
        scheme.activation,
        elementwise=scheme.elementwise,
        scale_method=None if scheme.is_static else scheme.input_scale,
        input_scale=scale,
        input_zero_point=zero_point,
        input_factor=None if smoothed is None else smoothed.factor,
    )


def _static_input(name: str, scheme: LayerScheme, statistics: Statistics | None) -> tuple[Tensor, Tensor | None]:
    """Scale and zero point of a static input."""
    statistics = statistics or Statistics()
    if scheme.input_range is None:
        return static_scale(name, scheme.activation, scheme.input_scale, statistics.amax), None
    spec = scheme.activation
    assert spec is not None
    if statistics.observer is None:
        zero_point = None if spec.symmetric else torch.zeros((), dtype=torch.int32)
        return _one_instead(name), zero_point
    try:
        return scale_of_range(statistics.observer.range(spec), spec)
    except ValueError as error:
        raise LayerError(f"{name}: the scale of its input is unknown: {error}") from error


def static_scale(name: str, spec: QuantSpec | None, method: MaxAbsScale | None, amax: Tensor | None) -> Tensor:
    """The scale of an input, called `name`, of which calibration found the largest magnitude, or None.

    Raises:
        LayerError: if that is not finite.

    Warns:
        CalibrationWarning: if there is none.
    """
    assert spec is not None
    assert method is not None
    fmt = spec.fmt
    assert isinstance(fmt, FloatFormat)
    if amax is None:
        return _one_instead(name)
    if not bool(amax.isfinite()):
        raise LayerError(f"{name}: calibration data made its input NaN or Inf; look at what the model is fed")
    return scale_of(amax, fmt, method)


def _one_instead(name: str) -> Tensor:
    warnings.warn(f"{name} was never called during calibration; the scale of its input is 1", CalibrationWarning, 2)
    return torch.ones((), dtype=torch.float32)


def _by_gptq(name: str, weight: Tensor, scheme: LayerScheme, method: GPTQ, statistics: Statistics) -> QTensor:
    hessian = statistics.hessian
    if hessian is None:
        warnings.warn(
            f"{name} was never called during calibration; its weights are rounded to nearest", CalibrationWarning, 2
        )
        hessian = torch.eye(weight.shape[1], dtype=torch.float64, device=weight.device)
        return gptq(weight, hessian, scheme.weight, replace(method, dead_columns=DeadColumns.KEEP)).qweight
    if hessian.ndim == 3:
        result = gptq_grouped(weight, hessian, scheme.weight, method)
        _warn_if_raised(name, method, result.factor)
        return result.qweight
    # The groups of a weight decide on the order of columns, so far as that goes by groups.
    key = (method.percdamp, method.order, scheme.weight.scale_shape(weight.shape)[1:])
    result = gptq(weight, hessian, scheme.weight, method, factor=statistics.factors.get(key))
    statistics.factors[key] = result.factor
    _warn_if_raised(name, method, result.factor)
    return result.qweight


def _warn_if_raised(name: str, method: GPTQ, factor: Factor) -> None:
    if factor.is_raised:
        warnings.warn(
            f"{name}: the Hessian of {len(factor.order)} input features has no factor with percdamp={method.percdamp}; "
            f"it was damped by {factor.damp:.3g}; calibrate with more data, or raise percdamp",
            CalibrationWarning,
            2,
        )
