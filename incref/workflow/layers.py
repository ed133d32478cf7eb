"""Replaces the layers of a model, one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from incref.algorithms.maxabs import scale_of
from incref.algorithms.weight import quantize_weight
from incref.calibration.ranges import RangeObserver
from incref.calibration.thresholds import scale_of_range
from incref.config.maxabs import MaxAbsScale
from incref.config.method import GPTQ, Cast
from incref.config.rules import Layer
from incref.config.scheme import CAST_DTYPES, InputScheme, LayerScheme
from incref.config.stored_weight import stored_weight
from incref.errors import CalibrationWarning, LayerError
from incref.formats import FloatFormat
from incref.modules.cast import cast_layer
from incref.modules.input import round_elementwise
from incref.modules.layer import QuantLayer
from incref.modules.replace import find_holders, replace_layer
from incref.modules.table import quantized_layer
from incref.numerics.checks import is_finite
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

if TYPE_CHECKING:
    from incref.checkpoints.layer_journal import LayerJournal
    from incref.workflow.lending import Lender
    from incref.workflow.smooth import Smoothed

__all__ = [
    "LayerReplacer",
    "Progress",
    "Statistics",
    "needs_calibration",
    "needs_hessian",
    "require_finite",
    "static_scale",
]

Progress = Callable[[str, int, int], None]
"""Called with the name of a layer that was converted, how many are, and how many there are in all."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What calibration found about the input of a layer.

    Attributes:
        amax: its largest magnitude, float32 []; None if the layer was never called, or needs none.
        observer: what says which range it has; None likewise.
        smoothed: how its features are scaled; None likewise.
    """

    amax: Tensor | None = None
    observer: RangeObserver | None = None
    smoothed: Smoothed | None = None


def needs_calibration(scheme: LayerScheme | InputScheme) -> bool:
    """Whether a layer, or what its scheme says of a whole model, is quantized with the help of calibration data."""
    if isinstance(scheme, InputScheme):
        return scheme.is_static
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
        lender: Lender | None = None,
        journal: LayerJournal | None = None,
    ) -> None:
        """Prepare for the layers of `model` that `schemes` names.

        Args:
            model: the model.
            schemes: what layers become.
            amax: the largest magnitude that those with static inputs are fed.
            observers: of their ranges.
            smoothed: how their features are scaled.
            progress: called after every layer.
            lender: of the values that the model lacks.
            journal: where weights are kept, and looked for first.
        """
        self.left = dict(schemes)
        self._model = model
        self._holders = find_holders(model)
        self._amax = amax
        self._observers = observers
        self._smoothed = smoothed
        self._progress = progress
        self._lender = lender
        self._journal = journal
        self._total = len(schemes)

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        layer = self._model.get_submodule(name)
        assert isinstance(layer, Layer)
        return layer

    def device(self, name: str) -> torch.device:
        """Where the weight of the layer called `name` is while it has values."""
        device = self.layer(name).weight.device
        return torch.device("cpu") if device.type == "meta" else device

    def find(self, name: str) -> QTensor | None:
        """The weight of the layer called `name` that the journal has, or None."""
        return None if self._journal is None else self._journal.get(name)

    def lend(self, name: str) -> AbstractContextManager[None]:
        """Give the part of the model called `name` the values that it lacks, for a while."""
        return nullcontext() if self._lender is None else self._lender.lend(self._model.get_submodule(name))

    def quantize(self, name: str, by: Callable[[str, Layer, LayerScheme], QTensor]) -> QTensor:
        """Quantize the weight of the layer called `name` by what calibration found.

        Raises:
            LayerError: if that can't be done.
        """
        with self.lend(name):
            layer = self.layer(name)
            require_finite(name, layer)
            return by(name, layer, self.left[name])

    def keep(self, name: str, qweight: QTensor) -> QTensor:
        """Put a weight into the journal, if there is one that lacks it, and give the one that stays in the file."""
        if self._journal is None:
            return qweight
        if self._journal.get(name) is None:
            self._journal.put(name, qweight)
        return self._journal.get(name) or qweight

    def replace(self, name: str, qweight: QTensor | None = None) -> None:
        """Put a quantized layer in the place of the one called `name`.

        Args:
            name: of the layer.
            qweight: its weight; None for the one of the journal, or one that needs no Hessian.

        Raises:
            LayerError: if the weight can't be quantized as its scheme says.
        """
        new, layer = self.make(name, qweight, keeps=True), self.layer(name)
        self.left.pop(name)
        replace_layer(self._holders, layer, new)
        if self._progress is not None:
            self._progress(name, self._total - len(self.left), self._total)

    def make(self, name: str, qweight: QTensor | None = None, *, keeps: bool = False) -> nn.Module:
        """Make what `replace` puts in the place of the layer called `name`; its weight is kept only if that is said."""
        scheme = self.left[name]
        with self.lend(name):
            layer = self.layer(name)
            require_finite(name, layer)
            smoothed = self._smoothed.get(name)
            observer = self._observers.get(name)
            if scheme.smoothing is not None:
                observer = None if smoothed is None else smoothed.observer
            statistics = Statistics(amax=self._amax.get(name), observer=observer, smoothed=smoothed)
            if isinstance(scheme.method, Cast):
                return _cast(name, layer, scheme)
            found = qweight or self.find(name) or _quantize_weight(name, layer, scheme, smoothed)
            found = self.keep(name, found) if keeps else found
            return _quantized(name, layer, scheme, statistics, found.to(layer.weight.device))

    @contextmanager
    def trying(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        """Put `modules` in the places of the layers that are so called, until the block ends."""
        layers = {name: self.layer(name) for name in modules}
        try:
            for name, layer in layers.items():
                self._hold(layer, modules[name])
            yield
        finally:
            for layer in layers.values():
                self._hold(layer, layer)

    def _hold(self, layer: Layer, module: nn.Module) -> None:
        for parent, key in self._holders[layer]:
            setattr(parent, key, module)


@torch.no_grad()
def _cast(name: str, layer: Layer, scheme: LayerScheme) -> nn.Module:
    try:
        return cast_layer(layer, CAST_DTYPES[scheme.weight.fmt.name])
    except ValueError as error:
        raise LayerError(f"{name}: {error}") from error


@torch.no_grad()
def _quantize_weight(name: str, layer: Layer, scheme: LayerScheme, smoothed: Smoothed | None) -> QTensor:
    weight = stored_weight(layer, scheme).detach()
    if scheme.elementwise is not None:
        weight = round_elementwise(weight, scheme.elementwise)
    if smoothed is not None and smoothed.scale is not None:
        weight = (weight * smoothed.scale).to(weight.dtype)
    try:
        return quantize_weight(weight, scheme)
    except (TypeError, ValueError) as error:
        raise LayerError(
            f"{name}: a weight of shape {tuple(weight.shape)} and {weight.dtype} can't become "
            f"{scheme.weight.fmt.name}: {error}"
        ) from error


@torch.no_grad()
def _quantized(name: str, layer: Layer, scheme: LayerScheme, statistics: Statistics, qweight: QTensor) -> QuantLayer:
    scale, zero_point = _static_input(name, scheme, statistics) if scheme.is_static else (None, None)
    smoothed = statistics.smoothed
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


def _static_input(name: str, scheme: LayerScheme, statistics: Statistics) -> tuple[Tensor, Tensor | None]:
    """Scale and zero point of a static input."""
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


def require_finite(name: str, layer: nn.Module) -> None:
    """Check that the weight of `layer`, called `name`, has values, and that they are finite.

    Raises:
        LayerError: if not.
    """
    weight = layer.get_parameter("weight")
    if weight.is_meta:
        raise LayerError(
            f"{name}: the weight is on the meta device and has no values; load the model first, or set model_path"
        )
    if not is_finite(weight.detach()):
        raise LayerError(f"{name}: a weight must be finite, and this one of shape {tuple(weight.shape)} has NaN or Inf")


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
