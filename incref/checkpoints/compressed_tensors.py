"""Checkpoints of the library compressed-tensors, which vLLM reads and LLM Compressor writes."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from incref.checkpoints.stored import (
    Codec,
    IntParts,
    StoredLayer,
    int_weight,
    narrow_scale,
    require_group_size,
    require_int,
    require_part,
    take_int_parts,
)
from incref.errors import CheckpointError
from incref.formats import FORMATS, BlockFormat, FloatFormat, Format, IntFormat, ScaleRule, SymmetricScale
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.numerics.patterns import FLOAT_DTYPES
from incref.ops.pack import pack, unpack
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["CompressedTensorsCodec", "encode_compressed_tensors"]

_SCALES = (torch.float16, torch.bfloat16, torch.float32)
_E4M3 = FORMATS["float8_e4m3fn"]
_NAIVE = ("naive-quantized", "int-quantized", "float-quantized")
_BLOCKS: Mapping[str, str] = MappingProxyType(
    {
        "mxfp4-pack-quantized": "mxfp4",
        "mxfp6-pack-quantized": "mxfp6_e2m3",
        "mxfp8-quantized": "mxfp8_e4m3",
        "nvfp4-pack-quantized": "nvfp4",
    }
)
"""The block format that each of these ways to store weights is for."""


def _dynamic(bits: int, kind: str, strategy: str, **others: Json) -> dict[str, Json]:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "dynamic": True, "symmetric": True, **others}


# What the library computes for the input of a layer, and what it is here. Its MXFP8 takes the rule of MXFP4's elements for
# the scale, which nothing here does; its NVFP4 needs a calibrated scale.
_INPUTS: Sequence[tuple[dict[str, Json], QuantSpec]] = (
    (_dynamic(8, "float", "token"), QuantSpec(fmt=_E4M3, granularity=PER_TOKEN)),
    (_dynamic(8, "float", "tensor"), QuantSpec(fmt=_E4M3)),
    (_dynamic(8, "float", "tensor") | {"dynamic": False}, QuantSpec(fmt=_E4M3)),
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
_INPUT_FIELDS = ("num_bits", "type", "strategy", "dynamic", "symmetric", "group_size", "scale_dtype")


@dataclass(frozen=True, kw_only=True)
class _Group:
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


@dataclass(frozen=True, kw_only=True)
class CompressedTensorsCodec(Codec):
    """Reads layers of compressed-tensors checkpoints.

    Weights are what the library decompresses them to: `(code - zero_point) * scale`, the product rounded to the dtype of
    the scales; bfloat16 where scales are codes. It divides the scales of NVFP4 by the scale of the tensor and multiplies
    with the elements then, each rounded to float32; here the exact product of the first two is multiplied with the
    reciprocal, so that the last bit can be another where that scale is no power of two.

    Attributes:
        groups: of layers that are quantized alike.
        weights_only: whether inputs are left alone, whatever the checkpoint says.
    """

    groups: tuple[_Group, ...]
    weights_only: bool = False

    @classmethod
    def parse(cls, config: Mapping[str, Json], *, weights_only: bool = False) -> "CompressedTensorsCodec":
        """Read a quantization_config of the method compressed-tensors.

        Raises:
            CheckpointError: if it is not one that is known.
        """
        for name in ("sparsity_config", "transform_config", "kv_cache_scheme"):
            value = config.get(name)
            if value and not (isinstance(value, dict) and value.get("format") == "dense"):
                raise CheckpointError(f"quantization_config: {name} is not supported, got {value!r:.80}")
        groups = config.get("config_groups")
        if not isinstance(groups, dict) or not groups:
            raise CheckpointError(f"quantization_config: config_groups must be an object, got {groups!r:.80}")
        return cls(
            groups=tuple(_parse_group(name, group, config.get("format")) for name, group in groups.items()),
            weights_only=weights_only,
        )

    def layers(self, names: Collection[str]) -> list[str]:
        """Name the layers that have a packed weight, or a scale for it."""
        found = (
            name.removesuffix(suffix)
            for name in names
            for suffix in (".weight_packed", ".weight_scale")
            if name.endswith(suffix)
        )
        return list(dict.fromkeys(found))

    def decode(self, layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> StoredLayer:
        """Read a layer."""
        group = self._group(layer)
        weight_parts = {name: part for name, part in parts.items() if not name.startswith("input_")}
        if group.storage in _BLOCKS:
            weight = _decode_blocks(layer, weight_parts, shape, _BLOCKS[group.storage])
        elif group.storage in _NAIVE:
            weight = _decode_naive(layer, weight_parts, shape, group.weights)
        else:
            weight = _decode_packed(layer, weight_parts, shape, group.weights)
        if self.weights_only or group.inputs is None:
            return StoredLayer(weight=weight)
        activation = _input_spec(layer, group.inputs)
        scale = None
        if not group.inputs.get("dynamic"):
            scale = parts.get("input_scale")
            if scale is None or scale.numel() != 1 or scale.dtype not in _SCALES:
                raise CheckpointError(f"{layer}: a static input needs one float input_scale")
            scale = scale.to(torch.float32).reshape(())
        return StoredLayer(weight=weight, activation=activation, input_scale=scale)

    def _group(self, layer: str) -> _Group:
        """The group of `layer`: by its name, else by an expression, else that of all linear layers."""
        for is_target in (
            lambda target: target == layer,
            lambda target: target.startswith("re:") and re.match(target.removeprefix("re:"), layer),
            lambda target: target == "Linear",
        ):
            for group in self.groups:
                if any(is_target(target) for target in group.targets):
                    return group
        raise CheckpointError(f"quantization_config: no config_group has {layer} for a target")


def encode_compressed_tensors(
    layers: Mapping[str, StoredLayer], unquantized: list[str], scale_dtype: torch.dtype | None
) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Store layers as compressed-tensors does.

    Args:
        layers: by name; they may be quantized differently.
        unquantized: the names of the other linear layers.
        scale_dtype: what float scales are rounded to; None for the dtype of the weight if that holds them exactly, else
            float32.

    Returns:
        The tensors by name, and the quantization_config.

    Raises:
        CheckpointError: if a layer can't be stored so; the message names it.
    """
    tensors: dict[str, Tensor] = {}
    groups: dict[str, tuple[dict[str, Json], list[str]]] = {}
    for name, layer in layers.items():
        storage, weights, parts = _encode_weight(name, layer, scale_dtype)
        inputs = None if layer.activation is None else _input_arguments(name, layer)
        if layer.input_scale is not None:
            parts["input_scale"] = layer.input_scale.reshape(1)
        group: dict[str, Json] = {
            "weights": weights,
            "input_activations": inputs,
            "output_activations": None,
            "format": storage,
        }
        groups.setdefault(json.dumps(group, sort_keys=True), (group, []))[1].append(name)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    if not groups:
        raise CheckpointError("a compressed-tensors checkpoint needs a quantized layer, and the model has none")
    described: dict[str, Json] = {}
    for i, (group, names) in enumerate(groups.values()):
        targets: list[Json] = ["Linear"] if len(groups) == 1 else list(names)
        described[f"group_{i}"] = {"targets": targets, **group}
    formats = {str(group["format"]) for group, _ in groups.values()}
    ignored: list[Json] = list(unquantized)
    return tensors, {
        "quant_method": "compressed-tensors",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": described,
        "ignore": ignored,
    }


def _parse_group(name: str, group: Json, storage: Json) -> _Group:
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
    known = ("pack-quantized", *_NAIVE, *_BLOCKS)
    if storage not in known:
        raise CheckpointError(f"quantization_config: the format must be one of {', '.join(known)}, got {storage!r:.80}")
    _check_weights(str(storage), weights)
    return _Group(
        targets=tuple(str(target) for target in targets), storage=str(storage), weights=weights, inputs=inputs or None
    )


def _require_expressions(name: str, targets: list[str]) -> None:
    for target in targets:
        try:
            re.compile(target.removeprefix("re:") if target.startswith("re:") else "")
        except re.error as error:
            raise CheckpointError(f"quantization_config: {target!r:.80} of {name} is no expression: {error}") from error


def _check_weights(storage: str, weights: Mapping[str, Json]) -> None:
    """Refuse what contradicts the way in which weights are stored."""
    kind = weights.get("type", "int")
    if storage in _BLOCKS:
        fmt = FORMATS[_BLOCKS[storage]]
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


def _strategy(weights: Mapping[str, Json]) -> str:
    strategy = weights.get("strategy")
    if strategy is None:
        size = weights.get("group_size")
        strategy = "tensor" if size is None else "channel" if size == -1 else "group"
    return str(strategy)


def _granularity(layer: str, weights: Mapping[str, Json], shape: tuple[int, int]) -> Granularity:
    strategy = _strategy(weights)
    if strategy == "tensor":
        return PER_TENSOR
    if strategy == "channel":
        return per_channel()
    if strategy == "group":
        size = require_group_size(weights)
        if size != -1 and shape[1] % size:
            raise CheckpointError(f"{layer}: groups of {size} must divide the {shape[1]} input features")
        return per_channel() if size == -1 else per_group(size)
    extents = weights.get("block_structure")
    if strategy == "block" and isinstance(extents, list) and len(extents) == 2:
        sizes = [size for size in extents if type(size) is int and size > 0]
        if len(sizes) == 2:
            return per_block((sizes[0], sizes[1]))
    raise CheckpointError(f"quantization_config: weights can't have the strategy {strategy!r:.80} with {extents!r:.80}")


def _stored_scale(layer: str, parts: Mapping[str, Tensor], spec: QuantSpec, shape: tuple[int, int]) -> Tensor:
    """The scale in its own dtype; one for a whole tensor has shape (1,) in files, and sometimes ()."""
    found = parts.get("weight_scale")
    expected = spec.scale_shape(shape)
    if expected == ():
        expected = () if found is not None and found.ndim == 0 else (1,)
    scale = require_part(layer, parts, "weight_scale", _SCALES, expected)
    if not bool(scale.isfinite().all()):
        raise CheckpointError(f"{layer}: scales must be finite, and there are NaN or Inf among them")
    return scale.reshape(spec.scale_shape(shape))


def _require_known(layer: str, parts: Mapping[str, Tensor], known: Collection[str]) -> None:
    if unknown := sorted(parts.keys() - set(known)):
        raise CheckpointError(f"{layer}: a layer stored so has no {', '.join(unknown)}")


def _decode_packed(
    layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int], weights: Mapping[str, Json]
) -> QTensor:
    """Integers in words of 32 bits; a stream of bits, but with unused ones in files of versions before 0.13."""
    rows, columns = shape
    bits = require_int(weights, "num_bits")
    is_symmetric = weights.get("symmetric", True)
    _require_known(layer, parts, {"weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"})
    _require_shape(layer, parts, shape)
    granularity = _granularity(layer, weights, shape)
    spec = QuantSpec(fmt=FORMATS[f"int{bits}"], granularity=granularity)
    scale = _stored_scale(layer, parts, spec, shape)
    fmt, groups = f"uint{bits}", 1 if scale.ndim == 0 else scale.shape[1]
    layout = _words(parts.get("weight_packed"), bits, columns)
    words = LAYOUTS[layout].num_words(bits, columns)
    packed = require_part(layer, parts, "weight_packed", (torch.int32,), (rows, words))
    if is_symmetric:
        zero_point = torch.full((rows, groups), 1 << (bits - 1), dtype=torch.uint8, device=packed.device)
    elif scale.ndim == 0:
        stored = require_part(layer, parts, "weight_zero_point", (torch.int8,), (1,))
        zero_point = (stored.to(torch.int16) + (1 << (bits - 1))).to(torch.uint8).expand(rows, groups)
    else:
        row_layout = _words(parts.get("weight_zero_point"), bits, rows, axis=0)
        row_words = LAYOUTS[row_layout].num_words(bits, rows)
        stored = require_part(layer, parts, "weight_zero_point", (torch.int32,), (row_words, groups))
        zero_point = unpack(stored, fmt, layout=row_layout, axis=0, length=rows)
    group_size = -1 if groups == 1 else require_group_size(weights)
    g_idx = parts.get("weight_g_idx")
    if g_idx is not None:
        g_idx = require_part(layer, parts, "weight_g_idx", (torch.int32, torch.int64), (columns,))
    stored_parts = IntParts(
        codes=unpack(packed, fmt, layout=layout, length=columns),
        zero_point=zero_point,
        scale=scale.to(torch.float32).expand(rows, groups).contiguous(),
        bits=bits,
        group_size=group_size,
        groups=g_idx,
    )
    return int_weight(layer, stored_parts, scale.dtype)


def _words(packed: Tensor | None, bits: int, length: int, *, axis: int = 1) -> PackLayout:
    """How codes lie in words, told by how many there are; a stream of bits where both take as many."""
    dense, sparse = (LAYOUTS[layout].num_words(bits, length) for layout in (PackLayout.DENSE_INT32, PackLayout.INT32))
    is_sparse = packed is not None and packed.ndim == 2 and packed.shape[axis] == sparse != dense
    return PackLayout.INT32 if is_sparse else PackLayout.DENSE_INT32


def _require_shape(layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> None:
    stored = require_part(layer, parts, "weight_shape", (torch.int64, torch.int32), (2,))
    if (found := tuple(stored.tolist())) != shape:
        raise CheckpointError(f"{layer}: weight_shape must be that of the model's layer, {shape}, got {found}")


def _decode_naive(
    layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int], weights: Mapping[str, Json]
) -> QTensor:
    """One code in a byte."""
    _require_known(layer, parts, {"weight", "weight_scale", "weight_zero_point"})
    granularity = _granularity(layer, weights, shape)
    if weights.get("type") == "float":
        spec = QuantSpec(fmt=_E4M3, granularity=granularity)
        codes = require_part(layer, parts, "weight", (torch.float8_e4m3fn,), shape).view(torch.uint8)
        if weights.get("symmetric", True) is not True:
            raise CheckpointError(f"{layer}: floats have no zero points; symmetric must be true")
    else:
        is_symmetric = bool(weights.get("symmetric", True))
        spec = QuantSpec(
            fmt=FORMATS["int8" if is_symmetric else "uint8"], granularity=granularity, symmetric=is_symmetric
        )
        codes = require_part(layer, parts, "weight", (torch.int8,), shape)
    scale = _stored_scale(layer, parts, spec, shape)
    zero_point = None
    if not spec.symmetric:
        codes = _flip_sign(codes)
        stored = require_part(layer, parts, "weight_zero_point", (torch.int8,), tuple(parts["weight_scale"].shape))
        zero_point = _flip_sign(stored).reshape(scale.shape)
    return QTensor(
        packed=codes,
        scale=scale.to(torch.float32),
        zero_point=zero_point,
        spec=spec,
        shape=shape,
        dtype=scale.dtype,
    )


def _flip_sign(codes: Tensor) -> Tensor:
    """From int8 to the uint8 that is 128 more, or back."""
    if codes.dtype is torch.int8:
        return codes.view(torch.uint8) ^ 128
    return (codes ^ 128).view(torch.int8)


def _decode_blocks(layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int], name: str) -> QTensor:
    """Blocks with scales that are codes."""
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    rows, columns = shape
    if columns % fmt.block_size:
        raise CheckpointError(f"{layer}: {name} needs input features in blocks of {fmt.block_size}, got {columns}")
    is_packed = fmt.element.bits < 8
    codes_name = "weight_packed" if is_packed else "weight"
    known = {codes_name, "weight_scale", *(("weight_global_scale",) if fmt.has_tensor_scale else ())}
    _require_known(layer, parts, known)
    dtypes = (torch.uint8,) if is_packed else (torch.float8_e4m3fn,)
    width = columns * fmt.element.bits // 8
    codes = require_part(layer, parts, codes_name, dtypes, (rows, width)).view(torch.uint8)
    scale_dtype = torch.float8_e4m3fn if fmt.has_tensor_scale else torch.uint8
    scale = require_part(layer, parts, "weight_scale", (scale_dtype,), (rows, columns // fmt.block_size))
    tensor_scale = None
    if fmt.has_tensor_scale:
        divisor = require_part(layer, parts, "weight_global_scale", (torch.float32,), (1,))
        tensor_scale = (1.0 / divisor).reshape(())
        if not bool((divisor > 0) & (tensor_scale > 0) & tensor_scale.isfinite()):
            raise CheckpointError(
                f"{layer}: weight_global_scale must be positive and have a reciprocal, got {divisor.item()}"
            )
    return QTensor(
        packed=codes,
        scale=scale.view(torch.uint8),
        tensor_scale=tensor_scale,
        spec=QuantSpec(fmt=fmt),
        shape=shape,
        dtype=torch.bfloat16,
    )


def _input_spec(layer: str, inputs: Mapping[str, Json]) -> QuantSpec:
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


def _input_arguments(name: str, layer: StoredLayer) -> dict[str, Json]:
    for arguments, spec in _INPUTS:
        if spec == layer.activation and bool(arguments["dynamic"]) == (layer.input_scale is None):
            return arguments
    raise CheckpointError(
        f"{name}: compressed-tensors has no words for how its input is quantized, {layer.activation}; "
        "quantize the weights alone"
    )


def _encode_weight(
    name: str, layer: StoredLayer, scale_dtype: torch.dtype | None
) -> tuple[str, dict[str, Json], dict[str, Tensor]]:
    """Find how a weight is stored: the format, the arguments of the weight, and its tensors."""
    weight = layer.weight
    fmt: Format = weight.spec.fmt
    if isinstance(fmt, BlockFormat):
        return _encode_blocks(name, weight, fmt)
    if isinstance(fmt, IntFormat):
        if fmt.bits == 8 and layer.activation is not None:
            return _encode_naive(name, weight, scale_dtype)
        return _encode_packed(name, weight, scale_dtype)
    if fmt == _E4M3:
        return _encode_naive(name, weight, scale_dtype)
    raise CheckpointError(f"{name}: compressed-tensors has no {fmt.name}")


def _encode_scale(name: str, weight: QTensor, scale: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is not None:
        return narrow_scale(name, scale, dtype, rounds=True)
    if weight.dtype in FLOAT_DTYPES and torch.equal(scale.to(weight.dtype).to(scale.dtype), scale):
        return scale.to(weight.dtype)
    return narrow_scale(name, scale, torch.float32, rounds=False)


def _encode_packed(
    name: str, weight: QTensor, scale_dtype: torch.dtype | None
) -> tuple[str, dict[str, Json], dict[str, Tensor]]:
    parts = take_int_parts(name, weight)
    rows, columns = parts.codes.shape
    if parts.groups is not None:
        raise CheckpointError(
            f"{name}: compressed-tensors has groups of neighbouring columns only; use static groups, or the order within "
            "groups"
        )
    is_grouped = parts.group_size != -1
    if is_grouped and columns % parts.group_size:
        raise CheckpointError(
            f"{name}: groups of {parts.group_size} must divide the {columns} input features in this layout"
        )
    fmt = f"uint{parts.bits}"
    tensors = {
        "weight_packed": pack(parts.codes, fmt, layout=PackLayout.DENSE_INT32),
        "weight_scale": _encode_scale(name, weight, parts.scale, scale_dtype).contiguous(),
        "weight_shape": torch.tensor([rows, columns]),
    }
    if not weight.spec.symmetric:
        tensors["weight_zero_point"] = pack(parts.zero_point, fmt, layout=PackLayout.DENSE_INT32, axis=0)
    arguments: dict[str, Json] = {
        "num_bits": parts.bits,
        "type": "int",
        "symmetric": weight.spec.symmetric,
        "strategy": "group" if is_grouped else "channel",
        "group_size": parts.group_size if is_grouped else None,
        "dynamic": False,
    }
    return "pack-quantized", arguments, tensors


def _encode_naive(
    name: str, weight: QTensor, scale_dtype: torch.dtype | None
) -> tuple[str, dict[str, Json], dict[str, Tensor]]:
    spec, shape = weight.spec, weight.shape
    if weight.order is not None or weight.scale.dtype is torch.uint8 or len(shape) != 2:
        raise CheckpointError(f"{name}: this layout holds matrices with float scales and columns in order")
    is_int = isinstance(spec.fmt, IntFormat)
    scale = _encode_scale(name, weight, weight.scale, scale_dtype)
    arguments: dict[str, Json] = {"num_bits": 8, "type": "int" if is_int else "float", "symmetric": spec.symmetric}
    arguments |= _describe_granularity(name, spec.granularity, shape)
    codes = weight.packed
    tensors = {"weight_scale": scale.reshape(scale.shape or (1,))}
    if weight.zero_point is not None:
        codes = _flip_sign(codes)
        tensors["weight_zero_point"] = _flip_sign(weight.zero_point).reshape(scale.shape or (1,))
    tensors["weight"] = codes if is_int else codes.view(torch.float8_e4m3fn)
    return f"{'int' if is_int else 'float'}-quantized", {**arguments, "dynamic": False}, tensors


def _describe_granularity(name: str, granularity: Granularity, shape: tuple[int, ...]) -> dict[str, Json]:
    if granularity == PER_TENSOR:
        return {"strategy": "tensor"}
    rows, columns = granularity.block_shape(shape)
    if granularity.block and granularity.block[-1] == -1 and rows == 1:
        return {"strategy": "channel"}
    if shape[1] % columns:
        raise CheckpointError(f"{name}: groups of {columns} must divide the {shape[1]} input features in this layout")
    if rows == 1:
        return {"strategy": "group", "group_size": columns}
    return {"strategy": "block", "block_structure": [rows, columns]}


def _encode_blocks(name: str, weight: QTensor, fmt: BlockFormat) -> tuple[str, dict[str, Json], dict[str, Tensor]]:
    storage = next((storage for storage, known in _BLOCKS.items() if FORMATS[known] == fmt), None)
    if storage is None:
        raise CheckpointError(f"{name}: compressed-tensors has no {fmt.name}")
    if len(weight.shape) != 2 or weight.spec.axis % 2 != 1 or weight.order is not None:
        raise CheckpointError(f"{name}: blocks must lie along K, with the columns in order")
    if weight.shape[1] % fmt.block_size:
        raise CheckpointError(
            f"{name}: {fmt.name} needs input features in blocks of {fmt.block_size} here, got {weight.shape[1]}"
        )
    is_packed = fmt.element.bits < 8
    tensors = {"weight_packed": weight.packed} if is_packed else {"weight": weight.packed.view(torch.float8_e4m3fn)}
    tensors["weight_scale"] = weight.scale.view(torch.float8_e4m3fn) if fmt.has_tensor_scale else weight.scale
    if weight.tensor_scale is not None:
        divisor = 1.0 / weight.tensor_scale
        if not bool(divisor.isfinite() & (divisor > 0)):
            raise CheckpointError(f"{name}: the scale of the tensor has no reciprocal: {weight.tensor_scale.item()}")
        tensors["weight_global_scale"] = divisor.reshape(1)
    arguments: dict[str, Json] = {
        "num_bits": fmt.element.bits,
        "type": "float",
        "symmetric": True,
        "strategy": "tensor_group" if fmt.has_tensor_scale else "group",
        "group_size": fmt.block_size,
        "dynamic": False,
        "scale_dtype": "torch.float8_e4m3fn" if fmt.has_tensor_scale else "torch.uint8",
    }
    return storage, arguments, tensors
