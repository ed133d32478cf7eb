"""`convert`: quantize the weights of a model, layer by layer."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from incref.algorithms.rtn import rtn
from incref.config.resolve import QuantConfig, resolve
from incref.config.scheme import LayerScheme
from incref.errors import LayerError
from incref.modules.linear import QuantLinear, round_elementwise
from incref.modules.replace import disable_fast_paths, find_holders, replace_layer
from incref.workflow.prepare import drop_plan, find_plan

__all__ = ["Progress", "convert"]

Progress = Callable[[str, int, int], None]
"""Called with the name of a layer that was converted, how many are, and how many there are in all."""


def convert(
    model: nn.Module,
    quant_config: QuantConfig | None = None,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
    *,
    progress: Progress | None = None,
) -> nn.Module:
    """Replace the layers of `model` by quantized ones.

    Args:
        model: a prepared model, or any with `quant_config`.
        quant_config: what layers become; None for a prepared model.
        inplace: whether `model` itself is changed; if not, a copy is, which shares no tensor with it.
        progress: called after every layer.

    Returns:
        The converted model.

    Raises:
        ValueError: if there is no configuration, or one for a model that was prepared with another.
        LayerError: if the weight of a layer is not finite or has no values. Nothing is converted then.
    """
    schemes = _schemes(model, quant_config)
    layers = {name: model.get_submodule(name) for name in schemes}
    for name, layer in layers.items():
        _require_finite(name, layer)
    if not inplace:
        # The weights that are to be replaced need no copy.
        memo: dict[int, object] = {id(layer.weight): layer.weight for layer in layers.values()}
        model = copy.deepcopy(model, memo)
    drop_plan(model)
    holders = find_holders(model)
    del layers
    for done, (name, scheme) in enumerate(schemes.items(), start=1):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        replace_layer(holders, layer, quantize_layer(name, layer, scheme))
        if progress is not None:
            progress(name, done, len(schemes))
    disable_fast_paths(model)
    return model


@torch.no_grad()
def quantize_layer(name: str, layer: nn.Linear, scheme: LayerScheme) -> QuantLinear:
    """Make what `layer`, called `name`, becomes under `scheme`.

    Raises:
        LayerError: if the weight can't be quantized so.
    """
    weight = layer.weight.detach()
    if scheme.elementwise is not None:
        weight = round_elementwise(weight, scheme.elementwise)
    try:
        qweight = rtn(weight, scheme.weight, use_mse_search=scheme.method.use_mse_search)
    except (TypeError, ValueError) as error:
        raise LayerError(
            f"{name}: a weight of shape {tuple(weight.shape)} and {weight.dtype} can't become "
            f"{scheme.weight.fmt.name}: {error}"
        ) from error
    new = QuantLinear(qweight, layer.bias, scheme.activation, elementwise=scheme.elementwise)
    return new.train(layer.training)


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
