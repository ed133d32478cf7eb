"""Quantized weights to layers of compressed-tensors checkpoints."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from incref.checkpoints.compressed_tensors.groups import BLOCKS, E4M3, SCALES, flip_sign, input_arguments
from incref.checkpoints.stored import (
    StoredLayer,
    narrow_scale,
    take_int_parts,
)
from incref.errors import CheckpointError
from incref.formats import FORMATS, BlockFormat, Format, IntFormat
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops.pack import pack
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor

__all__ = ["encode_compressed_tensors"]


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
        inputs = None if layer.activation is None else input_arguments(name, layer)
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
    if fmt == E4M3:
        return _encode_naive(name, weight, scale_dtype)
    raise CheckpointError(f"{name}: compressed-tensors has no {fmt.name}")


def _encode_scale(name: str, weight: QTensor, scale: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is not None:
        return narrow_scale(name, scale, dtype, rounds=True)
    if weight.dtype in SCALES and torch.equal(scale.to(weight.dtype).to(scale.dtype), scale):
        return scale.to(weight.dtype)
    return narrow_scale(name, scale, torch.float32, rounds=False)


def _encode_packed(
    name: str, weight: QTensor, scale_dtype: torch.dtype | None
) -> tuple[str, dict[str, Json], dict[str, Tensor]]:
    parts = take_int_parts(name, weight)
    rows, columns = parts.codes.shape
    if parts.groups is not None:
        raise CheckpointError(
            f"{name}: compressed-tensors has groups of neighbouring columns only; use static groups, or the order "
            "within groups"
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
    if weight.order is not None or spec.rule.is_power_of_two or len(shape) != 2:
        raise CheckpointError(f"{name}: this layout holds matrices with float scales and columns in order")
    is_int = isinstance(spec.fmt, IntFormat)
    scale = _encode_scale(name, weight, weight.parts.scale, scale_dtype)
    arguments: dict[str, Json] = {"num_bits": 8, "type": "int" if is_int else "float", "symmetric": spec.symmetric}
    arguments |= _describe_granularity(name, spec.granularity, shape)
    codes = weight.packed
    tensors = {"weight_scale": scale.reshape(scale.shape or (1,))}
    if weight.zero_point is not None:
        codes = flip_sign(codes)
        tensors["weight_zero_point"] = flip_sign(weight.zero_point).reshape(scale.shape or (1,))
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
    storage = next((storage for storage, known in BLOCKS.items() if FORMATS[known] == fmt), None)
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
        divisor = weight.tensor_scale if weight.spec.tensor_scale_divides else 1.0 / weight.tensor_scale
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
