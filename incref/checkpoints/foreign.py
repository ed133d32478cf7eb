"""The layouts of quantized Hugging Face checkpoints, by name."""

from collections.abc import Mapping
from enum import Enum

import torch
from torch import Tensor

from incref.checkpoints.awq import AwqCodec, encode_awq
from incref.checkpoints.compressed_tensors.decode import CompressedTensorsCodec
from incref.checkpoints.compressed_tensors.encode import encode_compressed_tensors
from incref.checkpoints.gptq import GptqCodec, encode_gptq
from incref.checkpoints.stored import Codec, StoredLayer
from incref.errors import CheckpointError
from incref.formats.layouts import PackLayout
from incref.qtensor.format_json import Json

__all__ = ["CheckpointLayout", "encode_layers", "find_codec"]


class CheckpointLayout(Enum):
    """How a checkpoint stores quantized layers."""

    GPTQ_V1 = "gptq_v1"
    """That of AutoGPTQ: integers of 2, 3, 4 or 8 bits, zero points less one."""
    GPTQ_V2 = "gptq_v2"
    """That of GPTQModel: the same, zero points as they are."""
    AWQ = "awq"
    """That of AutoAWQ, version GEMM: integers of 4 bits."""
    COMPRESSED_TENSORS = "compressed-tensors"
    """That of compressed-tensors: integers of 2 to 8 bits, E4M3, MXFP4, MXFP6 (E2M3), MXFP8 (E4M3) and NVFP4."""


def find_codec(config: Json, *, weights_only: bool = False) -> Codec:
    """Find what reads a checkpoint with this quantization_config.

    Args:
        config: as config.json has it.
        weights_only: whether inputs are left alone, whatever the checkpoint says.

    Raises:
        CheckpointError: if there is nothing that does.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"quantization_config must be an object, got {config!r:.80}")
    method = config.get("quant_method", "gptq" if "bits" in config else None)
    if method == "gptq":
        return GptqCodec.parse(config)
    if method == "awq":
        return AwqCodec.parse(config)
    if method == "compressed-tensors":
        return CompressedTensorsCodec.parse(config, weights_only=weights_only)
    raise CheckpointError(
        f"quantization_config: quant_method must be gptq, awq or compressed-tensors, got {method!r:.80}"
    )


def encode_layers(
    layers: Mapping[str, StoredLayer],
    unquantized: list[str],
    layout: CheckpointLayout,
    scale_dtype: torch.dtype | None = None,
) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Store quantized layers as `layout` says.

    Args:
        layers: by name.
        unquantized: the names of the other linear layers.
        layout: how.
        scale_dtype: what float scales are rounded to; None if they must not be.

    Returns:
        The tensors by name, and the quantization_config.

    Raises:
        CheckpointError: if a layer can't be stored so; the message names it.
    """
    if layout is CheckpointLayout.AWQ:
        return encode_awq(layers, unquantized, scale_dtype)
    if layout is CheckpointLayout.COMPRESSED_TENSORS:
        return encode_compressed_tensors(layers, unquantized, scale_dtype)
    zeros = PackLayout.GPTQ_V1 if layout is CheckpointLayout.GPTQ_V1 else PackLayout.GPTQ_V2
    return encode_gptq(layers, zeros, scale_dtype)
