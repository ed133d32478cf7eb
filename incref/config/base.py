"""What all configurations share: local rules, resolution against a model, and files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar

from torch import nn
from typing_extensions import Self

from incref.config.decision import Decision, Plan
from incref.config.rules import (
    LINEAR,
    Layer,
    NameMatch,
    NameRule,
    Rule,
    TypeRule,
    as_rule,
    check_layer,
    find_inputs,
    find_layers,
    is_head,
    quantizable_layers,
    require_matches,
)
from incref.config.scheme import InputScheme, LayerScheme
from incref.config.space import Choices, NamedOrDescribed, check_value, combinations, scalar_kind
from incref.errors import UnsupportedError
from incref.nn.inputs_only import InputsOnly
from incref.qtensor.format_json import Json

__all__ = ["EVERYTHING", "BaseConfig", "WhiteList"]

EVERYTHING = "*"
"""The `white_list` that speaks of every layer."""

WhiteList = Sequence[str | type[nn.Module] | Rule] | str | None
"""Layers that a configuration speaks of: `EVERYTHING`, a list of names, expressions and classes, or None for none."""


@dataclass(frozen=True)
class BaseConfig(ABC):
    """A configuration: fields that say what a layer becomes, and rules that give some layers another one.

    Fields are set at construction. A layer gets the configuration of the last name rule that matches it, else of the
    last class rule, else this one.

    Any field that holds a string, a number or a bool can be given a list of them instead. The configuration is then a
    search space: `expand` gives the configurations in it, and `autotune` tries them.
    """

    name: ClassVar[str]

    local_rules: list[tuple[Rule, "BaseConfig"]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the type of every field, and that together they make a scheme, or a space with one for every value."""
        for f in fields(self):
            kind, value = scalar_kind(f.type), getattr(self, f.name)
            is_described = f.type == NamedOrDescribed and isinstance(value, dict)
            if kind is not None and not is_described:
                object.__setattr__(self, f.name, check_value(f.name, kind, value))
        if not (self.white_list is None or self.white_list == EVERYTHING):
            if isinstance(self.white_list, str) or not isinstance(self.white_list, Sequence):
                raise ValueError(f'white_list must be "{EVERYTHING}", a list or None, got {self.white_list!r}')
            object.__setattr__(self, "white_list", tuple(as_rule(target) for target in self.white_list))
        if self.choices:
            self._require_every_value_used()
        else:
            self.scheme()

    @property
    @abstractmethod
    def white_list(self) -> WhiteList:
        """Layers that the configuration speaks of."""

    @property
    def leaves_heads_alone(self) -> bool:
        """Whether output heads keep their float weights."""
        return False

    @property
    def measurements(self) -> Path | None:
        """The file of what was measured; None for configurations that know none."""
        return None

    @property
    def measures_channels(self) -> bool:
        """Whether the channels of inputs are measured one by one."""
        return False

    @property
    def reads_measurements(self) -> bool:
        """Whether what was measured is read from that file."""
        return False

    @property
    def only_measures(self) -> bool:
        """Whether a model is prepared to write that file, and for nothing else."""
        return False

    @property
    def model_files(self) -> str:
        """The directory that values are read from which the model lacks; empty for none."""
        return ""

    @property
    def values_path(self) -> Path | None:
        """`model_files` of this configuration and of its local ones; None if there is none.

        Raises:
            ValueError: if they name different directories.
        """
        named = {config.model_files for config in (self, *(local for _, local in self.local_rules))} - {""}
        if len(named) > 1:
            raise ValueError(f"a model is read from one directory, got model_path {' and '.join(sorted(named))}")
        return Path(named.pop()) if named else None

    @property
    def kinds(self) -> tuple[type[Layer], ...]:
        """The classes of layers that the configuration speaks of."""
        return LINEAR

    def scheme_for(self, name: str, layer: Layer) -> LayerScheme | None:  # noqa: ARG002  # for those that tell layers apart
        """What `layer`, called `name`, becomes under this configuration; None to leave it alone."""
        return self.scheme()

    def inputs_for(self, name: str, module: InputsOnly) -> InputScheme | None:  # noqa: ARG002  # for those that speak of them
        """What happens to the inputs of `module`, called `name`, under this configuration; None to leave it alone."""
        return None

    def require_found(self, model: nn.Module) -> None:  # noqa: B027  # most of them name nothing else
        """Check that `model` has all that the fields name beside `white_list` and local rules.

        Raises:
            ValueError: if it lacks something.
        """

    @abstractmethod
    def scheme(self) -> LayerScheme | None:
        """What a layer becomes under this configuration; None to leave it alone.

        Raises:
            ValueError: if the fields contradict each other, or one holds several values; the message names them.
        """

    @property
    def choices(self) -> Choices:
        """The fields that hold a list of values, in their order; none for an ordinary configuration."""
        held = {f.name: getattr(self, f.name) for f in fields(self) if scalar_kind(f.type)}
        return {name: value for name, value in held.items() if isinstance(value, list)}

    def require_one(self) -> None:
        """Check that no field holds a list of values.

        Raises:
            ValueError: if one does; the message names it.
        """
        for name, values in self.choices.items():
            raise ValueError(
                f"{name} must be one value to quantize with, got the search space {values!r}; "
                "choose from expand(), or call autotune"
            )

    def expand(self) -> list[Self]:
        """List the configurations of this search space, each with the local rules of this one.

        Returns:
            Every combination of the values in lists, in the order of the fields, the last one changing fastest. Those
            that contradict themselves, such as "nf4" with zero points, are left out. An ordinary configuration gives a
            list of a copy of itself.

        >>> from incref.config.rtn import RTNConfig
        >>> [(one.use_sym, one.group_size) for one in RTNConfig(use_sym=[False, True], group_size=[32, 128]).expand()]
        [(False, 32), (False, 128), (True, 32), (True, 128)]
        """
        found = [one for one in map(self._choose, combinations(self.choices)) if isinstance(one, BaseConfig)]
        for one in found:
            one.local_rules.extend(self.local_rules)
        return found

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for."""
        return cls()

    def set_local(
        self,
        operator_name: str | type[nn.Module] | Sequence[str | type[nn.Module]],
        config: "BaseConfig",
        *,
        match: NameMatch | str = NameMatch.LAYER,
    ) -> Self:
        """Give some layers a configuration of their own.

        Args:
            operator_name: the name of a layer or of a module around some, an expression, a module class, or a list.
            config: what they get; of any kind.
            match: which part of a layer's name an expression has to match, a `NameMatch` or its value.

        Returns:
            This configuration, changed.
        """
        if not isinstance(config, BaseConfig):
            raise TypeError(f"a layer gets a configuration such as RTNConfig, got {config!r}")
        config.require_one()
        targets = [operator_name] if isinstance(operator_name, str | type) else list(operator_name)
        how = NameMatch(match)
        self.local_rules.extend([(as_rule(target, how), config) for target in targets])
        return self

    def __add__(self, other: "BaseConfig") -> Self:
        """Compose two configurations: this one, and for the layers that `other` speaks of, that one.

        Args:
            other: of any kind; its `white_list` or its local rules say which layers it speaks of.

        Returns:
            A new configuration of the kind of this one, with the rules of both; where both speak of a layer by name, or
            both by class, the rule of `other` counts.

        Raises:
            ValueError: if both speak of every layer and are not the same but for local rules.
        """
        if not isinstance(other, BaseConfig):
            return NotImplemented
        composed = replace(self)
        composed.local_rules.extend(self.local_rules)
        if other.white_list != EVERYTHING:
            listed = replace(other, white_list=EVERYTHING)  # type: ignore[call-arg]  # every configuration has that field
            composed.local_rules.extend((as_rule(target), listed) for target in other.white_list or ())
        elif replace(other) != replace(self):
            raise ValueError(
                f"both configurations speak of every layer; give {type(other).__name__} a white_list, or use set_local"
            )
        composed.local_rules.extend(other.local_rules)
        return composed

    def resolve(self, model: nn.Module) -> dict[str, LayerScheme]:
        """Say what every layer of `model` that changes becomes, by its name.

        Raises:
            ValueError: if a rule matches no layer, or only heads that are left alone.
            LayerError: if a layer can't be quantized.
        """
        return self.plan(model).schemes

    def plan(self, model: nn.Module) -> Plan:
        """Say what becomes of every layer of `model`, and why; nothing is changed.

        Raises:
            ValueError: if a rule matches no layer, or only heads that are left alone.
            LayerError: if a layer can't be quantized.

        >>> from incref.config.rtn import RTNConfig
        >>> config = RTNConfig().set_local("1", RTNConfig(dtype="fp32"))
        >>> print(config.plan(nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 8))))
        0  8 x 64  int4, groups of 32  5.000   every layer
        1  8 x 8   as it is            32.000  the rule '1' leaves it alone
        """
        self.require_one()
        kinds = {kind: None for config in (self, *(c for _, c in self.local_rules)) for kind in config.kinds}
        layers = quantizable_layers(model, list(kinds))
        listed = [] if isinstance(self.white_list, str) or self.white_list is None else list(self.white_list)
        rules: list[tuple[Rule, BaseConfig]] = [*((as_rule(target), self) for target in listed), *self.local_rules]
        inputs = find_inputs(model)
        for config in (self, *(local for _, local in self.local_rules)):
            config.require_found(model)
        require_matches([rule for rule, _ in rules], {**layers, **inputs})
        # Names are more particular than classes; among equals the later one wins.
        ranked = sorted(rules, key=lambda entry: isinstance(entry[0], NameRule))
        decisions: list[Decision] = []
        used: set[Rule] = set()
        for name, (layer, why_not) in find_layers(model, list(kinds)).items():
            if why_not is not None:
                decisions.append(Decision(name=name, layer=layer, scheme=None, reason=why_not))
                continue
            matched = [(rule, config) for rule, config in ranked if rule.matches(name, layer)]
            decision, is_head_left_alone = self._decide(name, layer, matched)
            if not is_head_left_alone:
                used.update(rule for rule, _ in matched)
            if decision.scheme is not None:
                check_layer(name, layer)
            decisions.append(decision)
        for name, module in inputs.items():
            matched = [(rule, config) for rule, config in ranked if rule.matches(name, module)]
            used.update(rule for rule, _ in matched)
            decisions.append(self._decide_inputs(name, module, matched))
        for rule, _ in rules:
            if rule not in used:
                raise ValueError(f"{rule} matches only output heads, which are left alone; give it quant_lm_head=True")
        return Plan(decisions=tuple(decisions))

    def _decide_inputs(self, name: str, module: InputsOnly, matched: Sequence[tuple[Rule, "BaseConfig"]]) -> Decision:
        """Decide about one module without weights by the last rule that matches it."""
        config, reason = self._ruling(matched)
        scheme = None if config is None else config.inputs_for(name, module)
        if config is not None and scheme is None:
            reason = f"{reason} leaves it alone"
        return Decision(name=name, layer=module, scheme=scheme, reason=reason)

    def _ruling(self, matched: Sequence[tuple[Rule, "BaseConfig"]]) -> tuple["BaseConfig | None", str]:
        """The configuration that speaks of what `matched` matches, if any, and why."""
        if matched:
            rule, config = matched[-1]
            return config, f"the rule {rule.pattern!r}" if isinstance(rule, NameRule) else f"the rule {rule.class_name}"
        return (self, "every layer") if self.white_list == EVERYTHING else (None, "no rule speaks of it")

    def _decide(self, name: str, layer: Layer, matched: Sequence[tuple[Rule, "BaseConfig"]]) -> tuple[Decision, bool]:
        """Decide about one layer by the last rule that matches it; say too whether it is a head that stays as it is."""
        config, reason = self._ruling(matched)
        if config is None:
            return Decision(name=name, layer=layer, scheme=None, reason=reason), False
        if not isinstance(layer, config.kinds):
            why = f"{type(config).__name__} does not speak of {type(layer).__name__}"
            return Decision(name=name, layer=layer, scheme=None, reason=why), False
        scheme = config.scheme_for(name, layer)
        if scheme is not None and config.leaves_heads_alone and is_head(name):
            return Decision(name=name, layer=layer, scheme=None, reason="an output head; see quant_lm_head"), True
        if scheme is None:
            reason = f"{reason} leaves it alone"
        return Decision(name=name, layer=layer, scheme=scheme, reason=reason), False

    def to_dict(self) -> dict[str, Json]:
        """Describe the configuration in JSON values; `from_dict` gives an equal one."""
        described: dict[str, Json] = {"name": self.name}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, tuple):
                value = [_rule_to_json(rule) for rule in value]
            if f.name != "local_rules":
                described[f.name] = value
        if self.local_rules:
            described["local"] = [
                {"match": _rule_to_json(rule), "config": config.to_dict()} for rule, config in self.local_rules
            ]
        return described

    @classmethod
    def from_dict(cls, described: dict[str, Json]) -> Self:
        """Make a configuration of what `to_dict` gives; fields that are left out have their defaults.

        The form of Neural Compressor is read too: the fields under "global", and under "local" those of every rule by
        its name.

        >>> from incref.config.rtn import RTNConfig
        >>> config = RTNConfig.from_dict({"global": {"bits": 8}, "local": {"fc1": {"dtype": "fp32"}}})
        >>> config == RTNConfig(bits=8).set_local("fc1", RTNConfig(dtype="fp32"))
        True

        Raises:
            TypeError: for a field that there isn't, or one of the wrong type.
            ValueError: for values that contradict each other.
        """
        from incref.config.table import config_from_dict  # noqa: PLC0415  # the table lists the classes below this one

        described = _flat(described)
        values: dict[str, object] = {key: value for key, value in described.items() if key not in ("name", "local")}
        if described.get("name", cls.name) != cls.name:
            raise ValueError(f"{cls.__name__} is described by the name {cls.name!r}, got {described['name']!r}")
        known = [f.name for f in fields(cls) if f.init]
        for key in values:
            if key not in known:
                raise TypeError(f"{cls.__name__} has no field {key!r}; it has {', '.join(known)}")
        if isinstance(described.get("white_list"), list):
            values["white_list"] = [_rule_from_json(rule) for rule in _as_list(described["white_list"])]
        config = cls(**values)
        for entry in _as_entries(cls.name, described.get("local", [])):
            if not isinstance(entry, dict) or set(entry) != {"match", "config"}:
                raise ValueError(f'a local rule has the keys "match" and "config", got {entry!r}')
            local = config_from_dict(entry["config"])
            local.require_one()
            config.local_rules.append((_rule_from_json(entry["match"]), local))
        return config

    def to_json_string(self) -> str:
        """Give `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_json_file(self, filename: str | Path) -> None:
        """Write `to_dict` to a file as JSON."""
        Path(filename).write_text(self.to_json_string(), encoding="utf-8")

    def to_yaml(self) -> str:
        """Give `to_dict` as YAML; `from_dict(yaml.safe_load(text))` makes an equal configuration.

        Raises:
            UnsupportedError: if PyYAML is not installed.

        >>> from incref.config.mixed_precision import MixedPrecisionConfig
        >>> print(MixedPrecisionConfig().to_yaml(), end="")
        name: mixed_precision
        dtype: fp16
        white_list: '*'
        """
        try:
            import yaml  # noqa: PLC0415  # an optional dependency
        except ImportError as error:
            raise UnsupportedError("to_yaml needs PyYAML: pip install pyyaml") from error
        text: str = yaml.safe_dump(self.to_dict(), sort_keys=False)
        return text

    def _choose(self, values: Mapping[str, object]) -> Self | Exception:
        """Make the configuration with `values` and without local rules, or give the reason why there is none."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        try:
            return type(self)(**{**given, **values})
        except (ValueError, UnsupportedError) as error:
            return error

    def _require_every_value_used(self) -> None:
        """Check that every value of every list is part of a combination that doesn't contradict itself."""
        tried = [(values, self._choose(values)) for values in combinations(self.choices)]
        for name, choices in self.choices.items():
            for value in choices:
                results = [one for values, one in tried if values[name] == value]
                errors = [one for one in results if isinstance(one, Exception)]
                if len(errors) == len(results):
                    raise errors[0]

    @classmethod
    def from_json_file(cls, filename: str | Path) -> Self:
        """Read what `to_json_file` wrote."""
        described = json.loads(Path(filename).read_text(encoding="utf-8"))
        if not isinstance(described, dict):
            raise ValueError(f"{filename}: a configuration is a JSON object, got {type(described).__name__}")  # noqa: TRY004
        return cls.from_dict(described)


def _rule_to_json(rule: Rule) -> Json:
    if isinstance(rule, TypeRule):
        return {"class": rule.class_name}
    return rule.pattern if rule.how is NameMatch.LAYER else {rule.how.value: rule.pattern}


def _rule_from_json(described: Json) -> Rule:
    if isinstance(described, str):
        return NameRule(described)
    if isinstance(described, dict) and len(described) == 1:
        ((how, text),) = described.items()
        if isinstance(text, str) and how == "class":
            return TypeRule(text)
        if isinstance(text, str) and how in [one.value for one in NameMatch]:
            return NameRule(text, NameMatch(how))
    raise ValueError(
        f'a rule is a string, {{"class": name}}, or {{how: expression}} with how one of '
        f"{', '.join(one.value for one in NameMatch)}, got {described!r}"
    )


def _flat(described: dict[str, Json]) -> dict[str, Json]:
    """Put the fields under "global" beside the others."""
    fields_of_all = described.get("global", {})
    if not isinstance(fields_of_all, dict):
        raise TypeError(f'the fields under "global" are a JSON object, got {fields_of_all!r}')
    return {**{key: value for key, value in described.items() if key != "global"}, **fields_of_all}


def _as_entries(name: str, local: Json) -> list[Json]:
    """List local rules as `to_dict` does, also those that are given by name with fields of the same class."""
    if not isinstance(local, dict):
        return _as_list(local)
    return [{"match": match, "config": {name: inner}} for match, inner in local.items()]


def _as_list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"a list of rules is a JSON array, got {value!r}")
    return value
