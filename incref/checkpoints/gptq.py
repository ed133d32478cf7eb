"""GPTQ checkpoints: AutoGPTQ's (v1) and GPTQModel's (v2)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

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
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.ops.pack import pack, unpack
from incref.qtensor.format_json import Json

__all__ = ["GptqCodec", "encode_gptq"]

_BITS = (2, 3, 4, 8)
_VERSIONS = {"gptq": PackLayout.GPTQ_V1, "gptq_v2": PackLayout.GPTQ_V2}
_SCALES = (torch.float16, torch.bfloat16, torch.float32)
_QWEIGHT = ".qweight"


@dataclass(frozen=True, kw_only=True)
class GptqCodec(Codec):
    """Reads layers of GPTQ checkpoints.

    Weights are `(code - zero_point) * scale`, the product rounded to the dtype of the scales, as AutoGPTQ and GPTQModel
    compute them.

    Attributes:
        bits: width of a code.
        group_size: columns of a group; -1 for all.
        zeros: how zero points are kept: GPTQ_V1 less one, GPTQ_V2 as they are.
    """

    bits: int
    group_size: int
    zeros: PackLayout

    @classmethod
    def parse(cls, config: Mapping[str, Json]) -> "GptqCodec":
        """Read a quantization_config of the method gptq.

        Raises:
            CheckpointError: if it is not one that is known.
        """
        version = config.get("checkpoint_format", config.get("format", "gptq"))
        if version not in _VERSIONS:
            raise CheckpointError(
                f"quantization_config: checkpoint_format must be {' or '.join(_VERSIONS)}, got {version!r:.80}"
            )
        if (words := config.get("pack_dtype", "int32")) != "int32":
            raise CheckpointError(f"quantization_config: pack_dtype must be int32, got {words!r:.80}")
        _require_uniform(config.get("dynamic"))
        return cls(
            bits=require_int(config, "bits", _BITS),
            group_size=require_group_size(config),
            zeros=_VERSIONS[str(version)],
        )

    def layers(self, names: Collection[str]) -> list[str]:
        """Name the layers that have a qweight."""
        return [name.removesuffix(_QWEIGHT) for name in names if name.endswith(_QWEIGHT)]

    def decode(self, layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> StoredLayer:
        """Read a layer."""
        rows, columns = shape
        groups = 1 if self.group_size == -1 else -(-columns // self.group_size)
        if unknown := sorted(parts.keys() - {"qweight", "qzeros", "scales", "g_idx"}):
            raise CheckpointError(f"{layer}: a GPTQ layer has no {', '.join(unknown)}")
        words = LAYOUTS[PackLayout.GPTQ_V2].num_words
        fmt = f"uint{self.bits}"
        qweight = require_part(layer, parts, "qweight", (torch.int32,), (words(self.bits, columns), rows))
        qzeros = require_part(layer, parts, "qzeros", (torch.int32,), (groups, words(self.bits, rows)))
        scales = require_part(layer, parts, "scales", _SCALES, (groups, rows))
        stored = unpack(qzeros, fmt, layout=PackLayout.GPTQ_V2, length=rows)
        if self.zeros is PackLayout.GPTQ_V1:
            _require_clear(layer, stored, self.bits)
            stored += 1
        weight = IntParts(
            codes=unpack(qweight, fmt, layout=PackLayout.GPTQ_V2, axis=0, length=columns).T.contiguous(),
            zero_point=stored.T.contiguous(),
            scale=scales.T.to(torch.float32).contiguous(),
            bits=self.bits,
            group_size=self.group_size,
            groups=self._groups(layer, parts, columns, groups),
        )
        return StoredLayer(weight=int_weight(layer, weight, scales.dtype))

    def _groups(self, layer: str, parts: Mapping[str, Tensor], columns: int, count: int) -> Tensor | None:
        if "g_idx" not in parts:
            return None
        groups = require_part(layer, parts, "g_idx", (torch.int32, torch.int64), (columns,))
        if columns and (int(groups.min()) < 0 or int(groups.max()) >= count):
            raise CheckpointError(
                f"{layer}: g_idx must name groups from 0 to {count - 1}, got {int(groups.min())} to {int(groups.max())}"
            )
        return groups


def encode_gptq(
    layers: Mapping[str, StoredLayer], zeros: PackLayout, scale_dtype: torch.dtype | None
) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Store layers as GPTQ checkpoints do.

    Args:
        layers: by name; all with codes of as many bits and groups of one size.
        zeros: GPTQ_V1 for AutoGPTQ's format, GPTQ_V2 for GPTQModel's.
        scale_dtype: what scales are rounded to; None for float16, which has to hold them exactly.

    Returns:
        The tensors by name, and the quantization_config.

    Raises:
        CheckpointError: if a layer can't be stored so; the message names it.
    """
    tensors: dict[str, Tensor] = {}
    first: tuple[str, IntParts] | None = None
    is_symmetric, is_ordered = True, False
    for name, layer in layers.items():
        if layer.activation is not None:
            raise CheckpointError(f"{name}: GPTQ checkpoints hold weights only, and its input is quantized too")
        parts = take_int_parts(name, layer.weight)
        first = first or (name, parts)
        if (parts.bits, parts.group_size) != (first[1].bits, first[1].group_size):
            raise CheckpointError(
                f"all layers of a GPTQ checkpoint must have as many bits and groups of one size; {first[0]} has "
                f"{first[1].bits} bits and groups of {first[1].group_size}, {name} {parts.bits} and {parts.group_size}"
            )
        is_symmetric &= parts.is_symmetric
        is_ordered |= parts.groups is not None
        tensors |= {f"{name}.{part}": tensor for part, tensor in _encode(name, parts, zeros, scale_dtype).items()}
    if first is None:
        raise CheckpointError("a GPTQ checkpoint needs a quantized layer, and the model has none")
    config: dict[str, Json] = {
        "quant_method": "gptq",
        "bits": first[1].bits,
        "group_size": first[1].group_size,
        "desc_act": is_ordered,
        "sym": is_symmetric,
        "checkpoint_format": next(name for name, layout in _VERSIONS.items() if layout is zeros),
        "pack_dtype": "int32",
        "lm_head": any(name.rpartition(".")[2] == "lm_head" for name in layers),
    }
    return tensors, config


def _encode(name: str, parts: IntParts, zeros: PackLayout, scale_dtype: torch.dtype | None) -> dict[str, Tensor]:
    rows, columns = parts.codes.shape
    if parts.bits not in _BITS:
        raise CheckpointError(f"{name}: GPTQ checkpoints hold {', '.join(map(str, _BITS))} bits, got {parts.bits}")
    for what, size in (("input", columns), ("output", rows)):
        if size * parts.bits % 32:
            raise CheckpointError(
                f"{name}: the {what} features of a GPTQ layer must fill whole words of 32 bits, and {size} of "
                f"{parts.bits} bits don't"
            )
    if zeros is PackLayout.GPTQ_V1 and bool((parts.zero_point == 0).any()):
        raise CheckpointError(
            f"{name}: a zero point is 0, which version 1 of the format can't tell from {1 << parts.bits}; "
            "save as gptq_v2"
        )
    fmt = f"uint{parts.bits}"
    groups = parts.groups
    if groups is None:
        size = columns if parts.group_size == -1 else parts.group_size
        groups = torch.arange(columns, dtype=torch.int32, device=parts.codes.device) // size
    scale = narrow_scale(name, parts.scale, scale_dtype or torch.float16, rounds=scale_dtype is not None)
    return {
        "qweight": pack(parts.codes.T, fmt, layout=PackLayout.GPTQ_V2, axis=0),
        "qzeros": pack(parts.zero_point.T, fmt, layout=zeros),
        "scales": scale.T.contiguous(),
        "g_idx": groups.to(torch.int32),
    }


def _require_clear(layer: str, stored: Tensor, bits: int) -> None:
    """Refuse zero points that version 1 has no one meaning for."""
    last = (1 << bits) - 1
    if bool((stored == last).any()):
        raise CheckpointError(
            f"{layer}: version 1 of the format keeps zero points less one, and one is kept as {last}: that is "
            f"{last + 1} for some readers (AutoGPTQ) and 0 for others (Neural Compressor). Make the checkpoint again "
            "as gptq_v2"
        )


def _require_uniform(dynamic: Json) -> None:
    """Refuse layers that have bits or groups of their own."""
    if dynamic is None:
        return
    rules = dynamic if isinstance(dynamic, dict) else {"dynamic": dynamic}
    for rule, override in rules.items():
        if not rule.startswith("-:") and override not in ({}, False, None):
            raise CheckpointError(
                f"quantization_config: layers must have the bits and groups of all, and dynamic changes {rule!r:.80}"
            )
