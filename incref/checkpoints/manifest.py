"""`incref.json`: what the tensors of a checkpoint mean."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.config.scheme import Elementwise, InputScheme
from incref.errors import CheckpointError
from incref.formats import FloatFormat, Rounding
from incref.qtensor.format_json import Json, format_from_json, format_to_json
from incref.qtensor.spec import QuantSpec

__all__ = ["MANIFEST_FILE", "LayerRecord", "Manifest"]

MANIFEST_FILE = "incref.json"
_FORMAT = "incref"
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """What a quantized layer is, but for its tensors.

    Attributes:
        weight: `QTensor.metadata` of its weight.
        activation: how its input is quantized.
        elementwise: what its vector operations round to.
        scale_method: how scales of its input are found.
    """

    weight: Json
    activation: QuantSpec | None
    elementwise: Elementwise | None
    scale_method: MaxAbsScale | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is in a checkpoint.

    Attributes:
        layers: every quantized layer by its name in the model.
        casts: every layer that computes in a dtype of its own, with the name of its format.
        inputs: likewise every module without weights that quantizes its inputs.
        aliases: names of tensors that are another one's, with that one's name.
        transient: names of buffers that the model leaves out of its own state, and may not have.
        architecture: class of the model in transformers, whose configuration is in config.json; None for other models.
        digests: SHA-256 of every file of tensors, by its name.
    """

    layers: dict[str, LayerRecord]
    casts: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, InputScheme] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    transient: tuple[str, ...] = ()
    architecture: str | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the manifest to a file."""
        layers: dict[str, Json] = {name: _record_to_json(record) for name, record in self.layers.items()}
        described: dict[str, Json] = {
            "format": _FORMAT,
            "version": _VERSION,
            "architecture": self.architecture,
            "sha256": dict(self.digests),
            "layers": layers,
            "casts": dict(self.casts),
            "inputs": {name: _inputs_to_json(scheme) for name, scheme in self.inputs.items()},
            "aliases": dict(self.aliases),
            "transient": dict.fromkeys(self.transient),
        }
        path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest from a file.

        Raises:
            CheckpointError: if the file is not a manifest of this version.
        """
        described = _read_json(path)
        if not isinstance(described, dict) or described.get("format") != _FORMAT:
            raise CheckpointError(f'{path} is not a manifest: it has no "format": "{_FORMAT}"')
        if described.get("version") != _VERSION:
            raise CheckpointError(
                f"{path} has version {described.get('version')!r}, and this incref reads version {_VERSION}; "
                "update incref, or save the model again"
            )
        try:
            return cls(
                layers={name: _record_from_json(record) for name, record in _object(described["layers"]).items()},
                casts={name: str(fmt) for name, fmt in _object(described.get("casts", {})).items()},
                # Checkpoints of models without such modules may not have it.
                inputs={
                    name: _inputs_from_json(scheme) for name, scheme in _object(described.get("inputs", {})).items()
                },
                aliases={name: str(target) for name, target in _object(described["aliases"]).items()},
                transient=tuple(_object(described["transient"])),
                architecture=None if described["architecture"] is None else str(described["architecture"]),
                digests={_file_name(name): str(digest) for name, digest in _object(described["sha256"]).items()},
            )
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{path} is damaged; save the model again ({type(error).__name__}: {error})"
            ) from error


def _read_json(path: Path) -> Json:
    try:
        described: Json = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged; save the model again ({type(error).__name__}: {error})") from error
    return described


def _file_name(name: str) -> str:
    if not name.endswith(".safetensors") or Path(name).name != name or "\\" in name:
        raise ValueError(f"tensors are in safetensors files beside the manifest, got {name!r:.120}")
    return name


def _object(described: Json) -> dict[str, Json]:
    if not isinstance(described, dict):
        raise TypeError(f"a JSON object is needed, got {described!r}")
    return described


def _record_to_json(record: LayerRecord) -> Json:
    return {
        "weight": record.weight,
        "activation": None if record.activation is None else record.activation.to_json(),
        "elementwise": None if record.elementwise is None else _elementwise_to_json(record.elementwise),
        "scale_method": None if record.scale_method is None else _scale_method_to_json(record.scale_method),
    }


def _record_from_json(record: Json) -> LayerRecord:
    described = _object(record)
    elementwise, scale_method = described["elementwise"], described.get("scale_method")
    return LayerRecord(
        weight=described["weight"],
        activation=None if described["activation"] is None else QuantSpec.from_json(described["activation"]),
        elementwise=None if elementwise is None else _elementwise_from_json(elementwise),
        scale_method=None if scale_method is None else _scale_method_from_json(scale_method),
    )


def _inputs_to_json(scheme: InputScheme) -> Json:
    return {
        "activation": scheme.activation.to_json(),
        "elementwise": None if scheme.elementwise is None else _elementwise_to_json(scheme.elementwise),
        "scale_method": None if scheme.input_scale is None else _scale_method_to_json(scheme.input_scale),
        "is_static": scheme.is_static,
    }


def _inputs_from_json(scheme: Json) -> InputScheme:
    described = _object(scheme)
    elementwise, scale_method, is_static = (described[key] for key in ("elementwise", "scale_method", "is_static"))
    if not isinstance(is_static, bool):
        raise TypeError(f"is_static is true or false, got {is_static!r}")
    return InputScheme(
        activation=QuantSpec.from_json(described["activation"]),
        elementwise=None if elementwise is None else _elementwise_from_json(elementwise),
        input_scale=None if scale_method is None else _scale_method_from_json(scale_method),
        is_static=is_static,
    )


def _elementwise_to_json(elementwise: Elementwise) -> Json:
    return {"fmt": format_to_json(elementwise.fmt), "rounding": elementwise.rounding.value}


def _scale_method_to_json(method: MaxAbsScale) -> Json:
    choices: list[Json] = list(method.choices)
    return {"value": method.value.value, "backoff": method.backoff, "choices": choices}


def _scale_method_from_json(method: Json) -> MaxAbsScale:
    described = _object(method)
    backoff, choices = described["backoff"], described["choices"]
    numbers = [backoff, *choices] if isinstance(choices, list) else []
    if not numbers or not all(type(number) is float for number in numbers):
        raise TypeError(f"a scale method has a backoff and choices that are numbers, got {described!r}")
    value = ScaleValue(described["value"])
    return MaxAbsScale(value=value, backoff=float(str(backoff)), choices=tuple(float(str(c)) for c in numbers[1:]))


def _elementwise_from_json(elementwise: Json) -> Elementwise:
    described = _object(elementwise)
    fmt = format_from_json(described["fmt"])
    if not isinstance(fmt, FloatFormat):
        raise TypeError(f"elementwise rounding is to a float format, got {fmt.name}")
    return Elementwise(fmt=fmt, rounding=Rounding(described["rounding"]))
