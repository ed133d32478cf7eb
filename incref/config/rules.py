"""Which layers of a model a configuration speaks of."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from torch import nn

from incref.config.conv1d import Conv1D
from incref.errors import LayerError
from incref.nn.inputs_only import InputsOnly
from incref.numerics.patterns import FLOAT_DTYPES

__all__ = [
    "LINEAR",
    "Layer",
    "NameMatch",
    "NameRule",
    "Rule",
    "TypeRule",
    "as_rule",
    "check_layer",
    "find_inputs",
    "find_layers",
    "is_head",
    "quantizable_layers",
    "require_matches",
]

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | Conv1D | nn.Embedding | nn.EmbeddingBag
"""The layers that can be quantized."""

LINEAR: tuple[type[Layer], ...] = (nn.Linear, Conv1D)
"""Those of them that multiply by a matrix."""

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
"""Those that look rows up. A configuration that does not speak of them does not see them."""

_HEADS = ("lm_head", "output_layer", "embed_out")


class NameMatch(Enum):
    """How a name is compared with an expression."""

    LAYER = "layer"
    """The name, or a leading part of it up to a dot, is the expression or is matched by all of it: "fc1" speaks of
    `fc1` and of every layer inside it but not of `fc10`."""
    PREFIX = "prefix"
    """The expression matches at the start (`re.match`): "fc1" speaks of `fc10` too. So in Neural Compressor."""
    SEARCH = "search"
    """It matches anywhere (`re.search`): "fc1" speaks of `mlp.fc10` too."""
    FULL = "full"
    """It matches all of the name (`re.fullmatch`)."""


@dataclass(frozen=True)
class NameRule:
    """Layers whose name matches an expression, by default so that ".*v_proj" speaks of all value projections.

    Attributes:
        pattern: a name, or a regular expression.
        how: which part of the name it has to match.
    """

    pattern: str
    how: NameMatch = NameMatch.LAYER

    def __post_init__(self) -> None:
        """Refuse what is no regular expression."""
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"a layer is named by a regular expression, got {self.pattern!r}: {error}") from error

    def matches(self, name: str, layer: nn.Module) -> bool:  # noqa: ARG002  # the signature of every rule
        """Whether the rule speaks of `layer`, called `name`."""
        match self.how:
            case NameMatch.LAYER:
                found = re.fullmatch(rf"(?:{re.escape(self.pattern)}|{self.pattern})(?:\..*)?", name)
            case NameMatch.PREFIX:
                found = re.match(self.pattern, name)
            case NameMatch.SEARCH:
                found = re.search(self.pattern, name)
            case NameMatch.FULL:
                found = re.fullmatch(self.pattern, name)
        return found is not None


@dataclass(frozen=True)
class TypeRule:
    """Layers of a class or of one derived from it.

    Attributes:
        class_name: module and qualified name of the class, such as "torch.nn.modules.linear.Linear".
    """

    class_name: str

    def matches(self, name: str, layer: nn.Module) -> bool:  # noqa: ARG002  # the signature of every rule
        """Whether the rule speaks of `layer`, called `name`."""
        return any(_class_name(cls) == self.class_name for cls in type(layer).__mro__)


Rule = NameRule | TypeRule


def as_rule(target: object, how: NameMatch = NameMatch.LAYER) -> Rule:
    """Make a rule of a name, a regular expression or a class.

    Args:
        target: one of them, or a rule, which stays as it is.
        how: which part of a name an expression has to match.

    Raises:
        TypeError: if `target` is none of them.
    """
    if isinstance(target, NameRule | TypeRule):
        return target
    if isinstance(target, str):
        return NameRule(target, how)
    if isinstance(target, type) and issubclass(target, nn.Module):
        return TypeRule(_class_name(target))
    raise TypeError(f"a rule is the name of a layer, a regular expression or a module class, got {target!r}")


def is_head(name: str) -> bool:
    """Whether a layer is an output head by its name: lm_head, output_layer or embed_out."""
    return name.rpartition(".")[2] in _HEADS


def quantizable_layers(model: nn.Module, kinds: Sequence[type[Layer]] = LINEAR) -> dict[str, Layer]:
    """Find the layers that a configuration can speak of, by name, in the order of the model.

    They are the modules of `kinds`, and those of derived classes that don't define a forward of their own. Left out
    are layers that share their weight with another kind of module, such as a head tied to an embedding; layers whose
    weight is computed by a parametrization; and the output projection of `nn.MultiheadAttention`, which reads the
    weight without calling the layer.

    Raises:
        LayerError: if `model` is itself such a layer, so that nothing holds it.
    """
    if isinstance(model, tuple(kinds)):
        raise LayerError("a layer is replaced in the module that holds it; put this one in an nn.Sequential")
    return {name: layer for name, (layer, why_not) in find_layers(model, kinds).items() if why_not is None}


def find_layers(model: nn.Module, kinds: Sequence[type[Layer]]) -> dict[str, tuple[Layer, str | None]]:
    """Find all layers of `model`, each with the reason why a configuration that speaks of `kinds` can't change it."""
    owners: dict[int, set[str]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(_use(module))
    seen = tuple(kind for kind in _EMBEDDINGS if kind in kinds)
    return {
        name: (module, _why_not(module, kinds, owners.get(id(module.weight))))
        for name, module in model.named_modules()
        if isinstance(module, Layer) and (isinstance(module, seen) or not isinstance(module, _EMBEDDINGS))
    }


def _use(module: nn.Module) -> str:
    """What a module does with a weight: only those that do the same may share one that is quantized."""
    if isinstance(module, _EMBEDDINGS):
        return type(module).__name__
    return "multiply" if isinstance(module, Layer) else "else"


def find_inputs(model: nn.Module) -> dict[str, InputsOnly]:
    """Find all modules of `model` without weights whose inputs can be quantized, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, InputsOnly) and name}


def _why_not(module: Layer, kinds: Sequence[type[Layer]], owners: set[str] | None) -> str | None:
    of_kind = [kind for kind in kinds if isinstance(module, kind)]
    if not of_kind:
        return f"the configuration does not speak of {type(module).__name__}"
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention reads its weight without calling it"
    if getattr(module, "max_norm", None) is not None:
        return "it changes its weight when it is called (max_norm)"
    if not any(type(module).forward is _base(module, kind).forward for kind in of_kind):
        return f"{type(module).__name__} defines a forward of its own"
    if owners is None:
        return "its weight is computed by a parametrization"
    return None if owners == {_use(module)} else "it shares its weight with another kind of module"


def check_layer(name: str, layer: Layer) -> None:
    """Check that the weight of `layer` can be quantized.

    Raises:
        LayerError: if it is empty, or not of a float dtype that operations read, or if the layer has hooks.
    """
    weight = layer.weight
    advice = f"leave it alone with set_local({name!r}, RTNConfig(dtype='fp32'))"
    if weight.numel() == 0:
        raise LayerError(f"{name}: a weight must have elements, got shape {tuple(weight.shape)}; {advice}")
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):  # noqa: SLF001  # no public way
        raise LayerError(f"{name}: a layer that is replaced would lose its hooks; remove them first")
    if weight.dtype not in FLOAT_DTYPES:
        allowed = ", ".join(str(dtype) for dtype in FLOAT_DTYPES)
        raise LayerError(
            f"{name}: a weight must be one of {allowed}, got {weight.dtype} of shape {tuple(weight.shape)}; {advice}"
        )


def require_matches(rules: Iterable[Rule], layers: Mapping[str, nn.Module]) -> None:
    """Check that each of `rules` speaks of at least one of `layers`.

    Raises:
        ValueError: for one that does not; the message names layers that are called alike.
    """
    for rule in rules:
        if any(rule.matches(name, layer) for name, layer in layers.items()):
            continue
        wanted = rule.pattern if isinstance(rule, NameRule) else rule.class_name
        near = difflib.get_close_matches(wanted, layers, n=3, cutoff=0.3) or list(layers)[:3]
        raise ValueError(
            f"every rule must match a layer, and {wanted!r} matches none of the {len(layers)} that can be quantized"
            + (f"; nearest: {', '.join(near)}" if near else "")
        )


def _base(module: Layer, kind: type[Layer]) -> type[Layer]:
    """The class that makes `module` one of `kind`."""
    return [cls for cls in type(module).__mro__ if issubclass(cls, kind)][-1]


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
