"""How layers are quantized and stored, as the configuration of compressed-tensors says it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from incref.checkpoints.stored import (
    StoredLayer,
    require_int,
)
from incref.errors import CheckpointError
from incref.formats import FORMATS, BlockFormat, ScaleArithmetic, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TOKEN
from incref.qtensor.format_json import Json
from incref.qtensor.spec import QuantSpec

__all__ = ["BLOCKS", "E4M3", "NAIVE", "SCALES", "Group", "flip_sign", "input_arguments", "input_spec", "parse_group"]

SCALES = (torch.float16, torch.bfloat16, torch.float32)
"""The dtypes of float scales."""
E4M3 = FORMATS["float8_e4m3fn"]
"""The only float of 8 bits that the library knows."""
NAIVE = ("naive-quantized", "int-quantized", "float-quantized")
"""The names of storing one code in a byte."""
BLOCKS: Mapping[str, str] = MappingProxyType(
    {
        "mxfp4-pack-quantized": "mxfp4",
        "mxfp6-pack-quantized": "mxfp6_e2m3",
        "mxfp8-quantized": "mxfp8_e4m3",
        "nvfp4-pack-quantized": "nvfp4",
    }
)
"""The block format that each of these ways to store weights is for."""
_INPUT_FIELDS = ("num_bits", "type", "strategy", "dynamic", "symmetric", "group_size", "scale_dtype")


def _dynamic(bits: int, kind: str, strategy: str, **others: Json) -> dict[str, Json]:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "dynamic": True, "symmetric": True, **others}


# What the library computes for the input of a layer, and what it is here. Its MXFP8 takes the rule of MXFP4's elements
# for the scale, which nothing here does; its NVFP4 needs a calibrated scale.
_INPUTS: Sequence[tuple[dict[str, Json], QuantSpec]] = (
    (_dynamic(8, "float", "token"), QuantSpec(fmt=E4M3, granularity=PER_TOKEN)),
    (_dynamic(8, "float", "tensor"), QuantSpec(fmt=E4M3)),
    (_dynamic(8, "float", "tensor") | {"dynamic": False}, QuantSpec(fmt=E4M3)),
    (
        _dynamic(8, "int", "token"),
        QuantSpec(fmt=FORMATS["int8"], granularity=PER_TOKEN, symmetric_scale=SymmetricScale.SPAN),
    ),
    *(
        (
            _dynamic(fmt.element.bits, "float", "group", group_size=fmt.block_size, scale_dtype="torch.uint8"),
            QuantSpec(fmt=fmt, rule=ScaleRule.EVEN),
        )
        for fmt in (FORMATS["mxfp4"], FORMATS["mxfp6_e2m3"])
        if isinstance(fmt, BlockFormat)
    ),
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of the configuration.

    Attributes:
        targets: the names, expressions and classes of the layers that it is for.
        storage: how their weights are stored.
        weights: how they are quantized.
        inputs: how their inputs are; None not at all.
    """

    targets: tuple[str, ...]
    storage: str
    weights: Mapping[str, Json]
    inputs: Mapping[str, Json] | None


def parse_group(name: str, group: Json, storage: Json) -> Group:
    """Read a config_group; `storage` is the format of those that name none.

    Raises:
        CheckpointError: if it says what is not known, or contradicts itself.
    """
    if not isinstance(group, dict) or not isinstance(group.get("weights"), dict):
        raise CheckpointError(f"quantization_config: {name} must say how weights are quantized, got {group!r:.80}")
    weights, inputs, targets = group["weights"], group.get("input_activations"), group.get("targets")
    assert isinstance(weights, dict)
    if group.get("output_activations"):
        raise CheckpointError(f"quantization_config: {name} quantizes outputs, which is not supported")
    if inputs is not None and not isinstance(inputs, dict):
        raise CheckpointError(f"quantization_config: input_activations of {name} must be an object, got {inputs!r:.80}")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise CheckpointError(f"quantization_config: targets of {name} must be names, got {targets!r:.80}")
    _require_expressions(name, [str(target) for target in targets])
    storage = group.get("format") or storage
    known = ("pack-quantized", *NAIVE, *BLOCKS)
    if storage not in known:
        raise CheckpointError(f"quantization_config: the format must be one of {', '.join(known)}, got {storage!r:.80}")
    _check_weights(str(storage), weights)
    return Group(
        targets=tuple(str(target) for target in targets), storage=str(storage), weights=weights, inputs=inputs or None
    )


def _require_expressions(name: str, targets: list[str]) -> None:
    expressions = [target.removeprefix("re:") for target in targets if target.startswith("re:")]
    try:
        for expression in expressions:
            re.compile(expression)
    except re.error as error:
        raise CheckpointError(f"quantization_config: a target of {name} is no expression: {error}") from error


def _check_weights(storage: str, weights: Mapping[str, Json]) -> None:
    """Refuse what contradicts the way in which weights are stored."""
    kind = weights.get("type", "int")
    if storage in BLOCKS:
        fmt = FORMATS[BLOCKS[storage]]
        assert isinstance(fmt, BlockFormat)
        found = (kind, weights.get("num_bits"), weights.get("group_size"))
        if found != (wanted := ("float", fmt.element.bits, fmt.block_size)):
            raise CheckpointError(f"quantization_config: {storage} needs {wanted}, got {found}")
    elif storage == "pack-quantized":
        require_int(weights, "num_bits", range(2, 9))
        if kind != "int":
            raise CheckpointError(f"quantization_config: {storage} is for type int, got {kind!r:.80}")
    elif kind not in ("int", "float") or require_int(weights, "num_bits") != 8:
        raise CheckpointError(
            f"quantization_config: {storage} is for int and float of 8 bits, got {kind!r:.80} of {weights['num_bits']}"
        )


def input_spec(layer: str, inputs: Mapping[str, Json]) -> QuantSpec:
    """Find what input_activations say.

    Raises:
        CheckpointError: if nothing here does that.
    """
    found = {name: inputs.get(name) for name in _INPUT_FIELDS}
    found["symmetric"] = inputs.get("symmetric", True)
    for arguments, spec in _INPUTS:
        if {name: arguments.get(name) for name in _INPUT_FIELDS} == found:
            return spec
    described = {name: value for name, value in found.items() if value is not None}
    raise CheckpointError(
        f"{layer}: its input is quantized in a way that is not supported, {described}; load with weights_only=True to "
        "leave inputs alone"
    )


def input_arguments(name: str, layer: StoredLayer) -> dict[str, Json]:
    """Say how the input of `layer` is quantized, as input_activations do.

    Whether readers divide by the scale or multiply by its reciprocal is up to them; the library divides.

    Raises:
        CheckpointError: if they can't.
    """
    activation = layer.activation
    if activation is not None:
        activation = replace(activation, arithmetic=ScaleArithmetic.DIVIDE)
    for arguments, spec in _INPUTS:
        if spec == activation and bool(arguments["dynamic"]) == (layer.input_scale is None):
            return arguments
    raise CheckpointError(
        f"{name}: compressed-tensors has no words for how its input is quantized, {layer.activation}; "
        "quantize the weights alone"
    )


def flip_sign(codes: Tensor) -> Tensor:
    """From int8 to the uint8 that is 128 more, or back."""
    if codes.dtype is torch.int8:
        return codes.view(torch.uint8) ^ 128
    return (codes ^ 128).view(torch.int8)
