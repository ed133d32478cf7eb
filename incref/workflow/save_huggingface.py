"""Saves models in layouts that serving engines read."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from incref.checkpoints.foreign import CheckpointLayout, encode_layers
from incref.checkpoints.shards import read_json, write_shards
from incref.checkpoints.stored import StoredLayer
from incref.errors import CheckpointError
from incref.modules.cast import CastLayer
from incref.modules.layer import QuantLayer
from incref.modules.linear import QuantLinear
from incref.modules.quant_inputs import QuantInputs
from incref.qtensor.format_json import Json
from incref.workflow.transformers_model import CONFIG_FILE

__all__ = ["DESCRIPTION_FILE", "write_huggingface"]

DESCRIPTION_FILE = "quantize_config.json"
"""Where AutoGPTQ looks for the quantization."""

_AUTOGPTQ_FIELDS = ("bits", "group_size", "desc_act", "sym", "checkpoint_format", "quant_method")


def write_huggingface(
    model: nn.Module,
    directory: Path,
    tensors: Mapping[str, Tensor],
    *,
    layout: CheckpointLayout,
    max_shard_size: int | None,
    scale_dtype: torch.dtype | None,
) -> None:
    """Write `model` in `layout` into `directory`, which holds its config.json already.

    Args:
        model: a converted model of transformers.
        directory: where.
        tensors: its parameters and buffers by name, tied ones once, without those that are not saved.
        layout: how quantized layers are stored.
        max_shard_size: bytes of a file.
        scale_dtype: what scales are rounded to; None if they must not be.

    Raises:
        CheckpointError: if a layer can't be stored so; the message names it.
    """
    layers: dict[str, StoredLayer] = {}
    unquantized: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, QuantInputs):
            raise CheckpointError(
                f"{name}: these layouts quantize inputs of linear layers only, and those of a {type(module).__name__} "
                'are quantized too; save with format="default"'
            )
        if isinstance(module, QuantLayer):
            layers[name] = _stored_layer(name, module)
        elif isinstance(module, nn.Linear | CastLayer):
            unquantized.append(name)
    encoded, quantization = encode_layers(layers, unquantized, layout, scale_dtype)
    prefixes = tuple(f"{name}." for name in layers)
    others = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes) or name.endswith(".bias")
    }
    write_shards(_apart({**others, **encoded}), directory, max_shard_size)
    architectures: list[Json] = [type(model).__name__]
    config = {**read_json(directory / CONFIG_FILE), "architectures": architectures, "quantization_config": quantization}
    _write_json(directory / CONFIG_FILE, config)
    if quantization["quant_method"] == "gptq":
        _write_json(directory / DESCRIPTION_FILE, {name: quantization[name] for name in _AUTOGPTQ_FIELDS})


def _stored_layer(name: str, module: QuantLayer) -> StoredLayer:
    if not isinstance(module, QuantLinear):
        raise CheckpointError(f"{name}: these layouts hold linear layers, got {type(module).__name__}")
    others = (module.elementwise, module.scale_method, module.input_zero_point, module.input_factor)
    if any(one is not None for one in others):
        raise CheckpointError(
            f"{name}: these layouts have no words for how its input is rounded or scaled in every call; "
            'save with format="default"'
        )
    scale = module.input_scale
    return StoredLayer(
        weight=module.qweight.to("cpu"),
        activation=module.activation,
        input_scale=None if scale is None else scale.detach().cpu(),
    )


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with one before them, which safetensors refuses."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in sorted(tensors.items()):
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    return apart


def _write_json(path: Path, value: dict[str, Json]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
