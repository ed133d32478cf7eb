"""AWQ checkpoints of AutoAWQ, version GEMM."""

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
from incref.formats.layouts import PackLayout
from incref.ops.pack import pack, unpack
from incref.qtensor.format_json import Json

__all__ = ["AwqCodec", "encode_awq"]

_BITS = 4
_WORD = 32 // _BITS
_QWEIGHT = ".qweight"
_SCALES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class AwqCodec(Codec):
    """Reads layers of AWQ checkpoints.

    Weights are `(code - zero_point) * scale`, the product rounded to the dtype of the scales, as AutoAWQ computes them.

    Attributes:
        group_size: columns of a group; -1 for all.
    """

    group_size: int

    @classmethod
    def parse(cls, config: Mapping[str, Json]) -> "AwqCodec":
        """Read a quantization_config of the method awq.

        Raises:
            CheckpointError: if it is not one that is known.
        """
        version = config.get("version", config.get("format", "gemm"))
        if str(version).lower() != "gemm":
            raise CheckpointError(f"quantization_config: the version of AWQ must be gemm, got {version!r:.80}")
        require_int(config, "w_bit" if "w_bit" in config else "bits", (_BITS,))
        return cls(group_size=require_group_size(config, "q_group_size" if "q_group_size" in config else "group_size"))

    def layers(self, names: Collection[str]) -> list[str]:
        """Name the layers that have a qweight."""
        return [name.removesuffix(_QWEIGHT) for name in names if name.endswith(_QWEIGHT)]

    def decode(self, layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> StoredLayer:
        """Read a layer."""
        rows, columns = shape
        if unknown := sorted(parts.keys() - {"qweight", "qzeros", "scales"}):
            raise CheckpointError(f"{layer}: an AWQ layer has no {', '.join(unknown)}")
        if rows % _WORD or (self.group_size != -1 and columns % self.group_size):
            raise CheckpointError(
                f"{layer}: an AWQ layer has output features in eights and input features in groups of "
                f"{self.group_size}, and this one has {rows} and {columns}"
            )
        groups = 1 if self.group_size == -1 else columns // self.group_size
        qweight = require_part(layer, parts, "qweight", (torch.int32,), (columns, rows // _WORD))
        qzeros = require_part(layer, parts, "qzeros", (torch.int32,), (groups, rows // _WORD))
        scales = require_part(layer, parts, "scales", _SCALES, (groups, rows))
        codes, zeros = (
            unpack(x, "uint4", layout=PackLayout.AWQ, length=rows).T.contiguous() for x in (qweight, qzeros)
        )
        weight = IntParts(
            codes=codes,
            zero_point=zeros,
            scale=scales.T.to(torch.float32).contiguous(),
            bits=_BITS,
            group_size=self.group_size,
        )
        return StoredLayer(weight=int_weight(layer, weight, scales.dtype))


def encode_awq(
    layers: Mapping[str, StoredLayer], unquantized: list[str], scale_dtype: torch.dtype | None
) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Store layers as AutoAWQ does, version GEMM.

    Args:
        layers: by name; all with codes of 4 bits and groups of one size.
        unquantized: the names of the other linear layers.
        scale_dtype: what scales are rounded to; None for float16, which has to hold them exactly.

    Returns:
        The tensors by name, and the quantization_config.

    Raises:
        CheckpointError: if a layer can't be stored so; the message names it.
    """
    tensors: dict[str, Tensor] = {}
    sizes: dict[int, str] = {}
    for name, layer in layers.items():
        parts = take_int_parts(name, layer.weight)
        rows, columns = parts.codes.shape
        if layer.activation is not None:
            raise CheckpointError(f"{name}: AWQ checkpoints hold weights only, and its input is quantized too")
        if parts.bits != _BITS or parts.groups is not None:
            order = "" if parts.groups is None else ", in an order of their own"
            raise CheckpointError(f"{name}: AWQ checkpoints hold 4 bits, columns in order; got {parts.bits}{order}")
        if rows % _WORD or (parts.group_size != -1 and columns % parts.group_size):
            raise CheckpointError(
                f"{name}: an AWQ layer has output features in eights and input features in whole groups of "
                f"{parts.group_size}, and this one has {rows} and {columns}"
            )
        sizes.setdefault(parts.group_size, name)
        scale = narrow_scale(name, parts.scale, scale_dtype or torch.float16, rounds=scale_dtype is not None)
        tensors[f"{name}.qweight"] = pack(parts.codes.T, "uint4", layout=PackLayout.AWQ)
        tensors[f"{name}.qzeros"] = pack(parts.zero_point.T, "uint4", layout=PackLayout.AWQ)
        tensors[f"{name}.scales"] = scale.T.contiguous()
    if len(sizes) != 1:
        found = ", ".join(f"{name} {size}" for size, name in sizes.items()) or "no quantized layer"
        raise CheckpointError(f"all layers of an AWQ checkpoint must have groups of one size, got {found}")
    skipped: list[Json] = list(unquantized)
    return tensors, {
        "quant_method": "awq",
        "bits": _BITS,
        "group_size": next(iter(sizes)),
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": skipped or None,
    }
