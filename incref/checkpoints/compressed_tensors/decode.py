"""Layers of compressed-tensors checkpoints to quantized weights."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.checkpoints.compressed_tensors.groups import (
    BLOCKS,
    E4M3,
    NAIVE,
    SCALES,
    Group,
    flip_sign,
    input_spec,
    parse_group,
)
from incref.checkpoints.stored import (
    Codec,
    IntParts,
    StoredLayer,
    int_weight,
    require_group_size,
    require_int,
    require_part,
)
from incref.errors import CheckpointError
from incref.formats import FORMATS, BlockFormat
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.granularity import PER_TENSOR, Granularity, per_block, per_channel, per_group
from incref.ops.pack import unpack
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["CompressedTensorsCodec"]


@dataclass(frozen=True, kw_only=True)
class CompressedTensorsCodec(Codec):
    """Reads layers of compressed-tensors checkpoints.

    Weights are what the library decompresses them to: `(code - zero_point) * scale`, the product rounded to the dtype
    of the scales; to bfloat16 where scales are codes. The scale of a tensor in NVFP4 divides those of its blocks.

    Attributes:
        groups: of layers that are quantized alike.
        weights_only: whether inputs are left alone, whatever the checkpoint says.
    """

    groups: tuple[Group, ...]
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
            groups=tuple(parse_group(name, group, config.get("format")) for name, group in groups.items()),
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
        if group.storage in BLOCKS:
            weight = _decode_blocks(layer, weight_parts, shape, BLOCKS[group.storage])
        elif group.storage in NAIVE:
            weight = _decode_naive(layer, weight_parts, shape, group.weights)
        else:
            weight = _decode_packed(layer, weight_parts, shape, group.weights)
        if self.weights_only or group.inputs is None:
            return StoredLayer(weight=weight)
        activation = input_spec(layer, group.inputs)
        scale = None
        if not group.inputs.get("dynamic"):
            scale = parts.get("input_scale")
            if scale is None or scale.numel() != 1 or scale.dtype not in SCALES:
                raise CheckpointError(f"{layer}: a static input needs one float input_scale")
            scale = scale.to(torch.float32).reshape(())
        return StoredLayer(weight=weight, activation=activation, input_scale=scale)

    def _group(self, layer: str) -> Group:
        """The group of `layer`: by its name, else by an expression, else that of all linear layers."""
        for group in self.groups:
            if layer in group.targets:
                return group
        for group in self.groups:
            expressions = [target.removeprefix("re:") for target in group.targets if target.startswith("re:")]
            if any(re.match(expression, layer) for expression in expressions):
                return group
        for group in self.groups:
            if "Linear" in group.targets:
                return group
        raise CheckpointError(f"quantization_config: no config_group has {layer} for a target")


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
    scale = require_part(layer, parts, "weight_scale", SCALES, expected)
    if not bool(scale.isfinite().all()):
        raise CheckpointError(f"{layer}: scales must be finite, and there are NaN or Inf among them")
    return scale.reshape(spec.scale_shape(shape))


def _require_known(layer: str, parts: Mapping[str, Tensor], known: Collection[str]) -> None:
    if unknown := sorted(parts.keys() - set(known)):
        raise CheckpointError(f"{layer}: a layer stored so has no {', '.join(unknown)}")


def _decode_packed(
    layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int], weights: Mapping[str, Json]
) -> QTensor:
    """Integers in words of 32 bits; a stream of bits, but with unused ones in files of older versions."""
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
        spec = QuantSpec(fmt=E4M3, granularity=granularity)
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
        codes = flip_sign(codes)
        stored = require_part(layer, parts, "weight_zero_point", (torch.int8,), tuple(parts["weight_scale"].shape))
        zero_point = flip_sign(stored).reshape(scale.shape)
    return QTensor(
        packed=codes,
        scale=scale.to(torch.float32),
        zero_point=zero_point,
        spec=spec,
        shape=shape,
        dtype=scale.dtype,
    )


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
        tensor_scale = divisor.reshape(())
        if not bool((divisor > 0) & divisor.isfinite()):
            raise CheckpointError(f"{layer}: weight_global_scale must be positive and finite, got {divisor.item()}")
    return QTensor(
        packed=codes,
        scale=scale.view(torch.uint8),
        tensor_scale=tensor_scale,
        spec=QuantSpec(fmt=fmt, tensor_scale_divides=fmt.has_tensor_scale),
        shape=shape,
        dtype=torch.bfloat16,
    )
