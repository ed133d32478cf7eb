"""What every layer of a model becomes, from anything that says so."""

from torch import nn

from incref.config.base import BaseConfig
from incref.config.decision import Decision, Plan
from incref.config.rules import LINEAR, check_layer, find_inputs, find_layers, is_head, quantizable_layers
from incref.config.scheme import LayerScheme
from incref.qtensor.format_json import Json

__all__ = ["QuantConfig", "as_config", "plan", "resolve"]

QuantConfig = BaseConfig | LayerScheme | dict[str, Json]
"""A configuration, one as `to_dict` describes it, or one scheme for every layer that is not an output head."""


def resolve(model: nn.Module, quant_config: QuantConfig) -> dict[str, LayerScheme]:
    """Say what every layer of `model` that changes becomes, by its name, in the order of the model.

    Raises:
        ValueError: if a rule matches no layer, or a scheme speaks of products and there are none.
        LayerError: if a layer can't be quantized.
        TypeError: if `quant_config` is something else.
    """
    return plan(model, quant_config).schemes


def plan(model: nn.Module, quant_config: QuantConfig) -> Plan:
    """Say what becomes of every layer of `model`, and why; nothing is changed.

    Raises:
        ValueError: if a rule matches no layer, or a scheme speaks of products and there are none.
        LayerError: if a layer can't be quantized.
        TypeError: if `quant_config` is something else.
    """
    config = as_config(quant_config)
    if isinstance(config, BaseConfig):
        return config.plan(model)
    quantizable_layers(model)
    decisions: list[Decision] = []
    for name, (layer, why_not) in find_layers(model, LINEAR).items():
        reason = "an output head" if why_not is None and is_head(name) else why_not
        if reason is None:
            check_layer(name, layer)
        scheme = config if reason is None else None
        decisions.append(Decision(name=name, layer=layer, scheme=scheme, reason=reason or "every layer"))
    if config.inputs is not None:
        inputs = find_inputs(model)
        if not inputs:
            raise ValueError(
                "the scheme quantizes what products are fed, and the model has no Matmul or KVCache; "
                "call expose_attention on a model of transformers, or take a scheme without"
            )
        decisions += [Decision(name=n, layer=m, scheme=config.inputs, reason="every layer") for n, m in inputs.items()]
    return Plan(decisions=tuple(decisions))


def as_config(quant_config: QuantConfig) -> BaseConfig | LayerScheme:
    """Make a configuration of one that is described; give back the others.

    Raises:
        TypeError: if `quant_config` is something else.
    """
    if isinstance(quant_config, dict):
        from incref.config.table import config_from_dict  # noqa: PLC0415  # every configuration, to find one by name

        quant_config = config_from_dict(quant_config)
    if not isinstance(quant_config, BaseConfig | LayerScheme):
        raise TypeError(
            f"quant_config is a configuration such as RTNConfig, a LayerScheme or a dict, got {quant_config!r}"
        )
    return quant_config
