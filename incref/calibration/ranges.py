"""From the values that a layer is fed to the range that its integers cover."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from incref.calibration.histogram import Histogram
from incref.calibration.thresholds import find_threshold
from incref.config.range_rule import RangeMethod, RangeRule
from incref.qtensor.spec import QuantSpec

__all__ = ["RangeCollector", "RangeObserver"]


class RangeObserver:
    """Sees the values that a layer is fed, and says which range its integers cover.

    Attributes:
        rule: how the range is chosen.
        extremes: the least and the greatest value so far, float32 [2], NaN once there was one; None before any.
    """

    def __init__(self, rule: RangeRule) -> None:
        """Start with nothing."""
        self.rule = rule
        self.extremes: Tensor | None = None
        self._histogram = None if rule.method is RangeMethod.MINMAX else Histogram()

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take x, any float dtype and shape, into account as float32 has it; nothing where it has no elements."""
        if x.numel() == 0:
            return
        values = x.detach().to(torch.float32)
        # NaN beats all in these two.
        found = torch.stack(values.aminmax())
        if self.extremes is not None:
            found = torch.stack([torch.minimum(found[0], self.extremes[0]), torch.maximum(found[1], self.extremes[1])])
        self.extremes = found
        # A range that is not finite is an error when it is asked for.
        if self._histogram is not None and bool(found.isfinite().all()):
            self._histogram.add(values)

    def range(self, spec: QuantSpec) -> Tensor:
        """Choose the range for values quantized as `spec` says, one scale for all.

        Returns:
            float32 [2], its ends.

        Raises:
            ValueError: if nothing was seen, or something that is not finite.
        """
        if self.extremes is None:
            raise ValueError("a range needs calibration data, and there was none")
        if not bool(self.extremes.isfinite().all()):
            raise ValueError(f"a range needs finite values, got extremes {self.extremes.tolist()}")
        if self._histogram is None:
            return self.extremes
        threshold = find_threshold(self._histogram, self.extremes, spec, self.rule)
        return self.extremes.clamp(-threshold, threshold)


class RangeCollector:
    """Observes the input of every layer, over all calls while it is attached.

    Attributes:
        rules: how ranges are chosen, by name of the layer.
        observers: by name of the layer; those of layers that were never called are missing.
    """

    def __init__(self, rules: Mapping[str, RangeRule]) -> None:
        """Collect for the layers that `rules` names, of the models that this is attached to."""
        self.rules = dict(rules)
        self.observers: dict[str, RangeObserver] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def attach(self, layers: Mapping[str, nn.Module]) -> None:
        """Hook into `layers`, by name."""
        for name in self.rules:
            self._handles.append(layers[name].register_forward_pre_hook(self._hook(name)))

    def detach(self) -> None:
        """Stop to collect."""
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            if name not in self.observers:
                self.observers[name] = RangeObserver(self.rules[name])
            self.observers[name].observe(args[0])

        return hook
