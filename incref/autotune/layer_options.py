"""What every layer loses under every configuration, measured alone."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from incref.autotune.assignment import Option
from incref.autotune.sampler import Search
from incref.config.base import BaseConfig
from incref.config.resolve import QuantConfig
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme
from incref.modules.layer import QuantLayer

__all__ = ["LayerOptions", "measure_options"]

LayerOptions = dict[str, list[Option]]
"""The options of every layer that some configuration quantizes, by name, in the order of the model."""


def measure_options(search: Search) -> LayerOptions:
    """Measure what every layer loses under every configuration.

    The loss of a layer is `sum((y' - y)^2) / sum(y^2)` over all elements of its outputs `y`, bias included, while the
    float model is fed; `y'` is what the quantized layer makes of the same inputs. Both sums are in float64. A layer
    that is left alone loses nothing. There is one quantized model at a time.

    Raises:
        TypeError: for a configuration that is not one, such as a `LayerScheme`.
        ValueError: if a layer is not called, or what it loses is not finite.
    """
    # By the scheme: configurations that don't differ in a layer are one option for it.
    found: dict[str, dict[str, Option]] = {}
    for given in search.configs:
        config = _as_config(given)
        schemes = config.resolve(search.model)
        quantized = search.quantize(config)
        losses = _losses(search, {name: _quantized_layer(quantized, name) for name in schemes})
        for name, scheme in schemes.items():
            bits = 8 * _quantized_layer(quantized, name).qweight.nbytes
            source = _source(config, name, search.model.get_submodule(name), scheme)
            option = Option(config=source, bits=bits, loss=losses[name])
            found.setdefault(name, {}).setdefault(repr(scheme), option)
    for name, choices in found.items():
        if any(name not in _as_config(given).resolve(search.model) for given in search.configs):
            weight = search.model.get_parameter(f"{name}.weight")
            choices["float"] = Option(config=None, bits=8 * weight.nbytes, loss=0.0)
    order = [name for name, _ in search.model.named_modules() if name in found]
    return {name: list(found[name].values()) for name in order}


def _as_config(given: QuantConfig) -> BaseConfig:
    if not isinstance(given, BaseConfig):
        raise TypeError(f"a layer gets a configuration such as RTNConfig; config_set must hold no other, got {given!r}")
    return given


def _source(config: BaseConfig, name: str, layer: nn.Module, scheme: LayerScheme) -> BaseConfig:
    """The configuration, of this one and those of its rules, that gives `layer`, called `name`, its `scheme`."""
    assert isinstance(layer, Layer)
    sources = (config, *(local for _, local in config.local_rules))
    return next(one for one in sources if isinstance(layer, one.kinds) and one.scheme_for(name, layer) == scheme)


def _quantized_layer(model: nn.Module, name: str) -> QuantLayer:
    layer = model.get_submodule(name)
    assert isinstance(layer, QuantLayer)
    return layer


class _Comparison:
    """Sums up the squares of what a layer gives, and of how much its quantized twin differs."""

    def __init__(self, quantized: QuantLayer) -> None:
        self._quantized = quantized
        self._error = 0.0
        self._total = 0.0

    @torch.no_grad()
    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Compare one call; a forward hook."""
        del module
        y = output.to(torch.float64)
        self._error += float((self._quantized(*args).to(torch.float64) - y).square().sum())
        self._total += float(y.square().sum())

    def loss(self, name: str) -> float:
        """The error as a fraction of the whole.

        Raises:
            ValueError: if that is not finite, or nothing was compared.
        """
        loss = self._error / self._total if self._total else math.nan
        if not math.isfinite(loss):
            raise ValueError(
                f"{name}: what a layer loses must be finite, got {self._error} of {self._total}; feed the model finite "
                f"data that calls this layer, or leave it alone in every configuration"
            )
        return loss


def _losses(search: Search, layers: Mapping[str, QuantLayer]) -> dict[str, float]:
    watched = copy.deepcopy(search.model)
    comparisons = {name: _Comparison(layer) for name, layer in layers.items()}
    for name, comparison in comparisons.items():
        watched.get_submodule(name).register_forward_hook(comparison)
    search.feed(watched)
    return {name: comparison.loss(name) for name, comparison in comparisons.items()}
