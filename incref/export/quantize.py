"""`prepare` and `convert` for captured graphs, by torchao's quantizer for x86 processors."""

import importlib.util
import warnings
from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from incref.config.base import BaseConfig
from incref.config.int8_dynamic import DynamicQuantConfig
from incref.config.int8_static import INT8StaticQuantConfig
from incref.config.rules import NameRule, Rule, TypeRule
from incref.config.scheme import LayerScheme
from incref.errors import LoweringWarning, UnsupportedError
from incref.export.capture import copy_graph
from incref.export.exact import exact
from incref.export.guard import guard
from incref.export.layers import layers_of, name_sources
from incref.export.processor import saturates
from incref.formats import IntFormat
from incref.modules.stage import Stage, set_stage, stage_of
from incref.numerics.granularity import PER_TENSOR, per_channel

if TYPE_CHECKING:
    from incref.export.annotate import Quantizer

__all__ = ["convert_exported", "prepare_exported"]


def prepare_exported(model: fx.GraphModule, config: object, *, inplace: bool = True) -> fx.GraphModule:
    """Put observers into a captured graph.

    Args:
        model: what `export` gave.
        config: an `INT8StaticQuantConfig` or `DynamicQuantConfig`; its rules speak of the modules that the graph was
            captured from.
        inplace: whether `model` itself is changed.

    Raises:
        UnsupportedError: for another configuration, fields that oneDNN has no product for, or without torchao.
        ValueError: if a rule matches no layer.
    """
    assert stage_of(model) is Stage.EXPORTED
    if importlib.util.find_spec("torchao") is None:
        raise UnsupportedError("captured graphs are quantized by torchao, which is not installed: incref[pt2e]")
    if not isinstance(config, INT8StaticQuantConfig | DynamicQuantConfig):
        raise UnsupportedError(
            "a captured graph is quantized by an INT8StaticQuantConfig or a DynamicQuantConfig, got "
            f"{type(config).__name__}; quantize the model that it was captured from"
        )
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e  # noqa: PLC0415  # an optional dependency

    from incref.export.annotate import Quantizer  # noqa: PLC0415  # it imports torchao

    if not inplace:
        model = copy_graph(model)
    name_sources(model)
    quantizer = Quantizer()
    _tell(quantizer, _schemes(model, config), _scheme_of(config, 2))
    prepared = prepare_pt2e(model, quantizer)
    assert isinstance(prepared, fx.GraphModule)
    set_stage(prepared, Stage.PREPARED)
    return prepared


def convert_exported(model: fx.GraphModule, *, inplace: bool = True) -> fx.GraphModule:
    """Quantize a graph that was prepared, and called on calibration data if it is static.

    Returns:
        A graph that multiplies dequantized codes, for `torch.compile` to make products of integers of them. Where the
        processor can't do these right, one that is `exact`.

    Raises:
        LayerError: if calibration data is missing or not finite.

    Warns:
        LoweringWarning: if the graph is made exact for want of a right product.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e  # noqa: PLC0415  # an optional dependency

    if not inplace:
        model = copy_graph(model)
    converted = convert_pt2e(model)
    assert isinstance(converted, fx.GraphModule)
    set_stage(converted, Stage.CONVERTED)
    guard(converted)
    if not saturates():
        return converted
    warnings.warn(
        "this processor has no VNNI, and oneDNN's products of 8-bit integers saturate in 16 bits; the graph is "
        "converted to exact products, which are slower",
        LoweringWarning,
        2,
    )
    return exact(converted)


def _tell(quantizer: "Quantizer", schemes: dict[str, LayerScheme | None], usual: LayerScheme | None) -> None:
    """Say what becomes of every layer; what is around those with the usual scheme may be fused with them."""
    others = [path for path, scheme in schemes.items() if scheme != usual]
    # Of a module and one within it, torchao marks the one that it hears of first.
    for path in sorted(schemes, key=lambda path: path.count("."), reverse=True):
        scheme = schemes[path]
        made = None if scheme is None else _as_torchao(scheme)
        is_alone = any(not other or path.startswith(f"{other}.") for other in others)
        if scheme is not None and scheme == usual and scheme.is_static and not is_alone:
            quantizer.set_global(made)
        else:
            quantizer.set_module_name_qconfig(path, made)


def _schemes(model: fx.GraphModule, config: BaseConfig) -> dict[str, LayerScheme | None]:
    """What becomes of every layer of the graph, by the name of the module that it comes from.

    Of a convolution it speaks as of the linear layer of its patches.
    """
    listed = config.white_list
    rules: list[tuple[Rule, BaseConfig]] = list(config.local_rules)
    if isinstance(listed, tuple):
        rules = [*((rule, config) for rule in listed), *rules]
    ranked = sorted(rules, key=lambda entry: isinstance(entry[0], NameRule))
    used: set[Rule] = set()
    found: dict[str, LayerScheme | None] = {}
    for path, class_name, ndim in layers_of(model):
        matched = [(rule, one) for rule, one in ranked if _matches(rule, path, class_name)]
        used.update(rule for rule, _ in matched)
        chosen = matched[-1][1] if matched else config if listed == "*" else None
        found[path] = None if chosen is None else _scheme_of(chosen, ndim)
    for rule, _ in rules:
        if rule not in used:
            raise ValueError(f"every rule must match a layer, and {rule} matches none of {', '.join(found)}")
    return found


def _matches(rule: Rule, path: str, class_name: str) -> bool:
    if isinstance(rule, TypeRule):
        return rule.class_name == class_name
    return rule.matches(path, nn.Identity())


def _scheme_of(config: BaseConfig, ndim: int) -> LayerScheme | None:
    if isinstance(config, DynamicQuantConfig) and ndim != 2:
        return None
    if not isinstance(config, INT8StaticQuantConfig | DynamicQuantConfig):
        raise UnsupportedError(f"a captured graph is quantized to 8-bit integers, not by {type(config).__name__}")
    return config.scheme_for("", nn.Linear(1, 1))


def _as_torchao(scheme: LayerScheme) -> object:
    """The configuration of torchao's quantizer."""
    from torchao.quantization.pt2e.observer import PlaceholderObserver  # noqa: PLC0415  # an optional dependency
    from torchao.quantization.pt2e.quantizer import QuantizationSpec  # noqa: PLC0415  # likewise
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (  # noqa: PLC0415  # likewise
        QuantizationConfig,
    )

    from incref.export.observers import InputObserver, WeightObserver  # noqa: PLC0415  # it imports torchao

    _require_lowerable(scheme)
    activation = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
        is_dynamic=not scheme.is_static,
        observer_or_fake_quant_ctr=(
            InputObserver.with_args(scheme=scheme) if scheme.is_static else PlaceholderObserver.with_args(eps=_EPS)
        ),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=WeightObserver.with_args(scheme=scheme),
    )
    return QuantizationConfig(activation, activation, weight, None, False)  # noqa: FBT003  # not to be trained


# The least scale of an input whose scale every call finds: that of PyTorch's own operator.
_EPS = torch.finfo(torch.float32).eps


def _require_lowerable(scheme: LayerScheme) -> None:
    if scheme.activation is None:
        raise UnsupportedError("a captured graph is quantized to 8-bit integers; cast the model before export")
    if not scheme.weight.symmetric:
        raise UnsupportedError(
            "captured graphs have no zero points of weights, as oneDNN has none; set w_sym=True, or leave export out"
        )
    if scheme.activation.granularity != PER_TENSOR:
        raise UnsupportedError("captured graphs have one scale for an input; set act_granularity='per_tensor'")
    if not scheme.is_static and scheme.activation.symmetric:
        raise UnsupportedError("captured graphs find scales with zero points in every call; set act_sym=False")
    assert isinstance(scheme.weight.fmt, IntFormat)
    assert scheme.weight.granularity in (PER_TENSOR, per_channel(0))
