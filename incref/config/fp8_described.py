"""`scale_method` as a dict: scale methods by what they are, for all layers and for some."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from incref.config.fp8_methods import SCALE_METHODS, ScaleMethod
from incref.config.maxabs import ScaleValue

__all__ = ["ScaleMethods", "read_scale_methods", "with_choices"]

_SECTIONS = ("nodes", "layers", "layer_types")
_SIDES = ("weight", "activation")
_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {"granularity": "PTS", "scale_value_type": "MAXABS", "rounding_method": "IDENTITY", "backoff": 1.0, "params": {}}
)
_CHOICES = "weight_scales"

# What a method is in the words of the dict: granularity, kind of value, rounding.
_Words = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class ScaleMethods:
    """The scale method of every layer.

    Attributes:
        default: that of layers that nothing else speaks of.
        nodes: by the name of a layer.
        layers: by the number after "layers." in its name.
        layer_types: by the name of its class.
    """

    default: ScaleMethod
    nodes: Mapping[str, ScaleMethod] = field(default_factory=dict)
    layers: Mapping[str, ScaleMethod] = field(default_factory=dict)
    layer_types: Mapping[str, ScaleMethod] = field(default_factory=dict)

    def of(self, name: str, kind: str) -> ScaleMethod:
        """The method of the layer called `name`, of the class `kind`: nodes go first, then layers, then layer types."""
        number = re.search(r"layers\.(\d+)", name)
        found = (
            self.nodes.get(name),
            self.layers.get(number[1]) if number else None,
            self.layer_types.get(kind),
            self.default,
        )
        return next(method for method in found if method is not None)


def read_scale_methods(described: Mapping[str, object]) -> ScaleMethods:
    """Read `{"default": {"weight": {...}, "activation": {...}}, "nodes": {name: ...}, ...}`.

    What an entry under "nodes", "layers" or "layer_types" leaves out, it has of the default; what that leaves out is
    "PTS", "MAXABS", "IDENTITY" and a backoff of 1.

    Raises:
        ValueError: for a key that there isn't, without a default, or for an entry that is no method of
            `SCALE_METHODS` but for its backoffs.
    """
    _only("scale_method", described, ("default", *_SECTIONS))
    if "default" not in described:
        raise ValueError(f'scale_method must have a "default", got {dict(described)!r}')
    default = _sides("default", described["default"], dict.fromkeys(_SIDES, _DEFAULTS))
    sections: dict[str, dict[str, ScaleMethod]] = {}
    for section in _SECTIONS:
        entries = _dict(section, described.get(section, {}))
        sections[section] = {
            name: _method(f"{section}[{name!r}]", _sides(f"{section}[{name!r}]", entry, default))
            for name, entry in entries.items()
        }
    return ScaleMethods(default=_method("default", default), **sections)


def with_choices(method: ScaleMethod, params: Mapping[str, object]) -> ScaleMethod:
    """Give a method that searches other scales, or multiples of scales, to choose from.

    Args:
        method: any.
        params: `{"weight_scales": [...]}`, powers of two, or empty.

    Raises:
        ValueError: for another key, for numbers that are no powers of two, or for a method that does not search.
    """
    _only("scale_params", params, (_CHOICES,))
    if _CHOICES not in params:
        return method
    choices = params[_CHOICES]
    if not isinstance(choices, Sequence) or not choices or not all(_is_power_of_two(one) for one in choices):
        raise ValueError(f"{_CHOICES} must be powers of two, got {choices!r}")
    if method.weight not in (ScaleValue.BEST_LISTED, ScaleValue.BEST_MULTIPLE):
        raise ValueError(
            f"{_CHOICES} are for methods that search the scales of weights; leave them out, got {choices!r}"
        )
    return replace(method, weight_choices=tuple(sorted(float(one) for one in choices)))


def _method(where: str, sides: Mapping[str, Mapping[str, object]]) -> ScaleMethod:
    weight, activation = sides["weight"], sides["activation"]
    words = (_words(where, weight), _words(where, activation))
    if words not in _NAMED:
        raise ValueError(
            f"scale_method, {where}: weight {' '.join(words[0])} with activation {' '.join(words[1])} is not one of "
            "the combinations that have a name; see SCALE_METHODS"
        )
    method = replace(
        _NAMED[words], weight_backoff=_backoff(where, weight), activation_backoff=_backoff(where, activation)
    )
    _only(f"{where}, params of activation", _dict(where, activation["params"]), ())
    return with_choices(method, _dict(where, weight["params"]))


def _sides(where: str, entry: object, default: Mapping[str, Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    given = _dict(where, entry)
    _only(where, given, _SIDES)
    sides: dict[str, Mapping[str, object]] = {}
    for side in _SIDES:
        fields = _dict(where, given.get(side, {}))
        _only(f"{where}, {side}", fields, tuple(_DEFAULTS))
        sides[side] = {**default[side], **fields}
    return sides


def _words(where: str, side: Mapping[str, object]) -> _Words:
    words = [side[key] for key in ("granularity", "scale_value_type", "rounding_method")]
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"scale_method, {where}: granularity, type and rounding are names, got {words!r}")
    granularity, kind, rounding = (str(word).upper() for word in words)
    return granularity, kind, rounding


def _backoff(where: str, side: Mapping[str, object]) -> float:
    backoff = side["backoff"]
    if not isinstance(backoff, float | int) or isinstance(backoff, bool) or not 0 < backoff <= 1:
        raise ValueError(f"scale_method, {where}: backoff must be in (0, 1], got {backoff!r}")
    return float(backoff)


def _words_of(method: ScaleMethod) -> tuple[_Words, _Words]:
    kinds = {
        ScaleValue.ONE: ("FIXED_VALUE", "SCALE_UNIT"),
        ScaleValue.FIXED: ("FIXED_VALUE", "HW_ALIGNED_FIXED"),
        ScaleValue.ANY: ("MAXABS", "IDENTITY"),
        ScaleValue.POWER_OF_TWO: ("MAXABS", "POW2"),
        ScaleValue.LISTED: ("MAXABS", "HW_ALIGNED"),
        ScaleValue.BEST_LISTED: ("OPT", "POW2" if method.weight_choices else "HW_ALIGNED"),
        ScaleValue.BEST_MULTIPLE: ("OPT", "POW2"),
    }
    weight = (method.weight_shares.value, *kinds[method.weight])
    return weight, (method.activation_shares.value, *kinds[method.activation])


_NAMED: Mapping[tuple[_Words, _Words], ScaleMethod] = MappingProxyType(
    {_words_of(method): method for method in SCALE_METHODS.values()}
)


def _is_power_of_two(number: object) -> bool:
    return isinstance(number, float | int) and number > 0 and float(number).hex().startswith("0x1.0000000000000p")


def _dict(where: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"scale_method, {where}: a dict is needed, got {value!r}")
    return value


def _only(where: str, given: Mapping[str, object], allowed: tuple[str, ...]) -> None:
    for key in given:
        if key not in allowed:
            raise ValueError(f"{where} has the keys {', '.join(allowed) or '(none)'}, got {key!r}")
